using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fgetxattr(2).</summary>
public static unsafe partial class SysGetXattr
{
    private const int MaxValue = 64 << 10; // XATTR_SIZE_MAX

    /// <summary>The value of an extended attribute. 0 or -errno.</summary>
    public static int TryGet(SafeFileHandle file, string name, out byte[] value)
    {
        byte[] buffer = new byte[MaxValue];
        nint length;

        // SAFETY: the buffer is pinned for the call, which writes no more than its length.
        fixed (byte* pointer = buffer)
        {
            length = NativeGet(file, name, pointer, MaxValue);
        }

        value = length > 0 ? buffer[..(int)length] : [];
        return length >= 0 ? 0 : -Marshal.GetLastPInvokeError();
    }

    [LibraryImport(
        "libc", EntryPoint = "fgetxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint NativeGet(SafeFileHandle file, string name, byte* value, nuint size);
}
