using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Whether the image may be changed, and what has to happen in it before the first change: unknown auto-clear features
/// are cleared, enabled bitmaps are marked in use, the file is rounded up to whole clusters. An image that is open for
/// writing but never written stays as it was, to the bit.
/// </summary>
internal sealed class Qcow2Session
{
    private readonly Qcow2Image _image;
    private readonly IReadOnlyList<Qcow2Bitmap> _bitmaps;
    private readonly Qcow2HeaderWriter _header;
    private readonly SemaphoreSlim _gate = new(1, 1);
    private volatile bool _isReady;
    private BlockException? _damage;

    public Qcow2Session(Qcow2Image image, IReadOnlyList<Qcow2Bitmap> bitmaps)
    {
        _image = image;
        _bitmaps = bitmaps;
        _header = new Qcow2HeaderWriter(image.File);
    }

    /// <summary>True when a change may go on at once.</summary>
    public bool IsReady => _isReady;

    /// <summary>True when something was changed, so that there is something to write back.</summary>
    public bool HasBegun { get; private set; }

    /// <summary>True when damage was found while writing.</summary>
    public bool IsDamaged => Volatile.Read(ref _damage) is not null;

    /// <summary>Completes when the image may be changed.</summary>
    /// <exception cref="BlockException">It may not: damage was found, or the preparations failed.</exception>
    public async ValueTask BeginAsync()
    {
        if (_isReady)
        {
            return;
        }

        await _gate.WaitAsync().ConfigureAwait(false);
        try
        {
            if (_damage is not null)
            {
                throw new BlockException(
                    BlockErrorKind.ReadOnly, "the image was found damaged and is not written any more", _damage)
                {
                    Hint = "Repair it with 'qemu-img check -r all'.",
                };
            }

            if (!_isReady)
            {
                await PrepareAsync().ConfigureAwait(false);
                HasBegun = true;
                _isReady = true;
            }
        }
        finally
        {
            _gate.Release();
        }
    }

    /// <summary>
    /// Notes damage that was found on the write path, in the image too where its version has a bit for that, and
    /// refuses changes from now on.
    /// </summary>
    public async ValueTask ReportDamageAsync(BlockException damage)
    {
        _isReady = false;
        if (Interlocked.CompareExchange(ref _damage, damage, null) is not null || _image.Header.Version < 3)
        {
            return;
        }

        await _gate.WaitAsync().ConfigureAwait(false);
        try
        {
            await _header.WriteIncompatibleAsync(
                _image.Header.Incompatible & ~Qcow2Incompatible.Dirty | Qcow2Incompatible.Corrupt,
                CancellationToken.None)
                .ConfigureAwait(false);
            await _image.File.FlushAsync().ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The damage itself is what the caller has to hear about.
        }
        finally
        {
            _isReady = false;
            _gate.Release();
        }
    }

    private async ValueTask PrepareAsync()
    {
        Qcow2Header header = _image.Header;
        Qcow2Autoclear unknown = header.Autoclear & ~Qcow2Autoclear.Known;
        if (unknown != 0)
        {
            await _header.WriteAutoclearAsync(header.Autoclear & Qcow2Autoclear.Known, CancellationToken.None)
                .ConfigureAwait(false);
            await _image.File.FlushAsync().ConfigureAwait(false);
        }

        await Qcow2Bitmaps.MarkInUseAsync(_image.File, _bitmaps, all: false, CancellationToken.None)
            .ConfigureAwait(false);
        await RoundUpAsync(_image.File, header.Geometry.ClusterSize).ConfigureAwait(false);
        if (_image.DataFile is { } dataFile && dataFile.Length < header.Size
            && !await dataFile.TryResizeAsync(header.Size).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the data file is smaller than the disk and cannot grow")
            {
                Found = $"0x{dataFile.Length:x}",
                Expected = $"0x{header.Size:x}",
            };
        }
    }

    private static async ValueTask RoundUpAsync(BlockNode file, int clusterSize)
    {
        long length = file.Length;
        long whole = length + clusterSize - 1 & -(long)clusterSize;
        if (whole != length && (file.Capabilities & BlockCapabilities.Resize) != 0)
        {
            await file.TryResizeAsync(whole).ConfigureAwait(false);
        }
    }
}
