using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>mmap(2), munmap(2) and madvise(2): private anonymous memory, page-aligned, zeroed, and resident only where it
/// was touched; and memory shared with a driver.</summary>
public static unsafe partial class PageMemory
{
    private const int PROT_READ = 1;
    private const int PROT_WRITE = 2;
    private const int MAP_SHARED = 1;
    private const int MAP_PRIVATE = 2;
    private const int MAP_ANONYMOUS = 0x20;
    private const int MAP_POPULATE = 0x8000;
    private const int MADV_DONTNEED = 4;

    /// <summary>Memory of <paramref name="length"/> bytes. Throws <see cref="OutOfMemoryException"/>.</summary>
    public static byte* Map(nuint length)
    {
        // SAFETY: a fresh anonymous mapping that nobody else knows of.
        void* address = NativeMap(null, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return (nint)address == -1
            ? throw new OutOfMemoryException($"mmap of {length} bytes: {Errno.Format(Marshal.GetLastPInvokeError())}")
            : (byte*)address;
    }

    /// <summary>Memory that a driver shares, readable and writable, or null and a positive errno.</summary>
    /// <param name="fd">The driver's descriptor.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="offset">Which of its memories.</param>
    /// <param name="errno">0 on success.</param>
    public static byte* TryMapShared(int fd, nuint length, long offset, out int errno)
    {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        void* address = NativeMap(null, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
        errno = (nint)address == -1 ? Marshal.GetLastPInvokeError() : 0;
        return (nint)address == -1 ? null : (byte*)address;
    }

    /// <summary>Gives mapped memory back.</summary>
    public static void Unmap(byte* address, nuint length) => NativeUnmap(address, length);

    /// <summary>Gives the pages back but keeps the addresses; they read as zero afterwards.</summary>
    public static void Discard(byte* address, nuint length) => NativeAdvise(address, length, MADV_DONTNEED);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial void* NativeMap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int NativeUnmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int NativeAdvise(void* address, nuint length, int advice);
}
