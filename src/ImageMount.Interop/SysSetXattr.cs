using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fsetxattr(2).</summary>
public static unsafe partial class SysSetXattr
{
    /// <summary>Makes or replaces an extended attribute. 0 or -errno.</summary>
    public static int Set(SafeFileHandle file, string name, ReadOnlySpan<byte> value)
    {
        // SAFETY: the value is pinned for the call, which only reads it.
        fixed (byte* pointer = value)
        {
            return NativeSet(file, name, pointer, (nuint)value.Length, 0) == 0 ? 0 : -Marshal.GetLastPInvokeError();
        }
    }

    [LibraryImport(
        "libc", EntryPoint = "fsetxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeSet(SafeFileHandle file, string name, byte* value, nuint size, int flags);
}
