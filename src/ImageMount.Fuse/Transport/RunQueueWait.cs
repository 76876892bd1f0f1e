using System.Buffers.Text;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// How long the calling thread was ready to run and had no processor (/proc/thread-self/schedstat, second field). It
/// tells an operation that waited for a disk from one that only was not let to run, which more threads make worse.
/// </summary>
internal sealed class RunQueueWait : IDisposable
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
        int space = text.IndexOf((byte)' ');
        return space >= 0 && Utf8Parser.TryParse(text[(space + 1)..], out long wait, out _) ? wait : 0;
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
            return null; // An old or strange kernel: every wait then counts as one for a disk.
        }
    }
}
