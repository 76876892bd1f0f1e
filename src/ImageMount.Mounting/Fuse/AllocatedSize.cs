using ImageMount.Core.Block;
using ImageMount.Mounting.Reports;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// How much space the image takes, for st_blocks. Asking may be slow (a remote image), so the answer is kept and
/// renewed in the background when the disk was written and somebody looks again.
/// </summary>
internal sealed class AllocatedSize(BlockNode image)
{
    private const long RenewAfterMs = 1000;
    private const int BlockSize = 512;
    private long _bytes = -1;
    private long _seenWrites;
    private long _renewedAt = Environment.TickCount64;
    private int _renewing;

    /// <summary>Asks for the first time.</summary>
    public async ValueTask ReadAsync(CancellationToken cancellationToken)
    {
        try
        {
            Core.Info.DeviceInfo info = await InfoReport.DescribeAsync(image, cancellationToken).ConfigureAwait(false);
            Volatile.Write(ref _bytes, info.ActualSize ?? -1);
        }
        catch (BlockException)
        {
            Volatile.Write(ref _bytes, -1); // Only a decoration: the files then look fully allocated.
        }
    }

    /// <summary>
    /// Blocks of 512 bytes of a file. The image's space is that of the whole disk; a partition is shown with its share
    /// of it, so that tools see that there are holes to look for.
    /// </summary>
    public long BlocksOf(DiskFile file)
    {
        long writes = file.Coherence.Writes;
        if (writes != Volatile.Read(ref _seenWrites)
            && Environment.TickCount64 - Volatile.Read(ref _renewedAt) >= RenewAfterMs
            && Interlocked.Exchange(ref _renewing, 1) == 0)
        {
            Volatile.Write(ref _seenWrites, writes);
            _ = RenewAsync();
        }

        long length = file.Length;
        long bytes = Volatile.Read(ref _bytes);
        if (bytes < 0)
        {
            bytes = length;
        }
        else if (!file.IsWholeDisk)
        {
            bytes = (long)Math.Min(length, (double)bytes / Math.Max(file.Node.Length, 1) * length);
        }

        return (bytes + BlockSize - 1) / BlockSize;
    }

    private async Task RenewAsync()
    {
        await Task.Yield(); // not on the worker that answers GETATTR
        await ReadAsync(CancellationToken.None).ConfigureAwait(false);
        Volatile.Write(ref _renewedAt, Environment.TickCount64);
        Volatile.Write(ref _renewing, 0);
    }
}
