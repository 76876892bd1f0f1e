using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Synthesis;

namespace ImageMount.VirtualFat;

/// <summary>A folder of the host as a disk with a FAT volume, for reading.</summary>
internal sealed class VirtualFatDevice : BlockDevice, IHasIdentity, IRefreshable
{
    private readonly VirtualFatOptions _options;
    private readonly Action<string> _warn;
    private readonly TimeZoneInfo _zone;
    private readonly InFlight _inFlight = new();
    private FatSynthesiser _disk;

    /// <summary>Takes over the synthesiser.</summary>
    public VirtualFatDevice(
        VirtualFatOptions options, FatSynthesiser disk, TimeZoneInfo zone, Action<string> warn)
    {
        _options = options;
        _disk = disk;
        _zone = zone;
        _warn = warn;
        Length = disk.Plan.Geometry.TotalBytes;
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public string Identity
    {
        get
        {
            Interop.StatInfo stat = _disk.Host.Stat;
            return string.Create(
                CultureInfo.InvariantCulture, $"folder:{stat.DeviceMajor}:{stat.DeviceMinor}:{stat.Inode}");
        }
    }

    /// <inheritdoc/>
    public bool WantsRefresh => _options.Refresh;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        // The disk completes synchronously, so that leaving behind the call is leaving behind the request.
        int slot = _inFlight.Enter();
        try
        {
            return Volatile.Read(ref _disk).ReadAsync(offset, buffer, cancellationToken);
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        int slot = _inFlight.Enter();
        try
        {
            return Volatile.Read(ref _disk).MapAsync(offset, count, cancellationToken);
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    /// <summary>
    /// Scans the folder again. The disk keeps its geometry, because its readers know its size; a folder that has grown
    /// beyond it is shown as it was before.
    /// </summary>
    public async ValueTask RefreshAsync(CancellationToken cancellationToken)
    {
        HostFolder host = _disk.Host.Reopen();
        FatSynthesiser old = _disk;
        try
        {
            FatPlan? plan = FatPlanner.Remake(host, _options, old.Plan.Geometry, _zone, _warn, cancellationToken);
            if (plan is null)
            {
                host.Dispose();
                _warn("the folder does not fit on the disk any more; it is shown as it was when it did");
                return;
            }

            Volatile.Write(ref _disk, new FatSynthesiser(host, plan, _warn));
        }
        catch
        {
            host.Dispose();
            throw;
        }

        await _inFlight.DrainAsync().ConfigureAwait(false);
        old.Dispose();
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        FolderFacts.Describe(_disk.Plan, info);
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        _disk.Dispose();
        return default;
    }
}
