using System.Buffers.Text;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// How long the calling thread ran, or was ready to run and had no processor (/proc/thread-self/schedstat, the first two
/// fields). It tells an operation that waited for a disk from one that had much to compute or was not let to run, which
/// more threads make worse.
/// </summary>
internal sealed class AwakeTime : IDisposable
{
    private readonly SafeFileHandle? _file = TryOpen();

    /// <summary>Nanoseconds since the thread began, or 0 where the kernel does not count. Same thread every time.</summary>
    public long Nanoseconds()
    {
        if (_file is null)
        {
            return 0;
        }
        Span<byte> text = stackalloc byte[96];
        try
        {
            text = text[..RandomAccess.Read(_file, text, 0)];
        }
        catch (IOException)
        {
            return 0;
        }
        return Utf8Parser.TryParse(text, out long ran, out int used) && used < text.Length
            && Utf8Parser.TryParse(text[(used + 1)..], out long waited, out _)
                ? ran + waited : 0;
    }

    public void Dispose() => _file?.Dispose();

    private static SafeFileHandle? TryOpen()
    {
        try
        {
            // The link is resolved now: the file stays that of the thread which opens it.
            return File.OpenHandle("/proc/thread-self/schedstat");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // An old or strange kernel: everything slow then counts as a wait for a disk.
        }
    }
}
