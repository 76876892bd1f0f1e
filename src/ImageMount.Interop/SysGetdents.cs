using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>getdents64(2): the names in an open folder, as the kernel hands them out.</summary>
public static unsafe partial class SysGetdents
{
    /// <summary>
    /// Bytes of records put into the buffer, from where the last call on this descriptor ended; 0 at the end; or -errno.
    /// </summary>
    public static int Read(SafeFileHandle directory, Span<byte> buffer)
    {
        // SAFETY: the kernel writes no more than the buffer's length.
        fixed (byte* pointer = buffer)
        {
            while (true)
            {
                nint result = NativeGetdents64(directory, pointer, (nuint)buffer.Length);
                if (result >= 0)
                {
                    return (int)result;
                }

                int errno = Marshal.GetLastPInvokeError();
                if (errno != Errno.EINTR)
                {
                    return -errno;
                }
            }
        }
    }

    /// <summary>The next record of a buffer that <see cref="Read"/> filled; false when there is none.</summary>
    /// <param name="records">What is left; shortened by the record.</param>
    /// <param name="name">Its name.</param>
    public static bool TryNext(ref ReadOnlySpan<byte> records, out ReadOnlySpan<byte> name)
    {
        // struct linux_dirent64: inode (8), position (8), length of the record (2), type (1), name with a NUL.
        const int LengthAt = 16;
        const int NameAt = 19;
        name = default;
        if (records.Length <= NameAt)
        {
            return false;
        }

        int length = MemoryMarshal.Read<ushort>(records[LengthAt..]);
        if (length <= NameAt || length > records.Length)
        {
            return false;
        }

        name = records[NameAt..length];
        int end = name.IndexOf((byte)0);
        name = end < 0 ? name : name[..end];
        records = records[length..];
        return true;
    }

    [LibraryImport("libc", EntryPoint = "getdents64", SetLastError = true)]
    private static partial nint NativeGetdents64(SafeFileHandle directory, byte* buffer, nuint count);
}
