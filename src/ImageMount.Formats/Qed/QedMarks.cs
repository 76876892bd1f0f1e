using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qed;

/// <summary>
/// The fields of the header that change while the image is open. Each lies in one sector, so a write is old or new.
/// </summary>
internal sealed class QedMarks(BlockNode file, QedHeader header)
{
    private QedFeatures _features = header.Features;
    private ulong _autoclear = header.AutoclearFeatures;

    /// <summary>True when the header says that the image has to be checked.</summary>
    public bool NeedsCheck => (_features & QedFeatures.NeedCheck) != 0;

    /// <summary>Says, durably, that somebody changes tables, or that it is over.</summary>
    public async ValueTask SetNeedsCheckAsync(bool value)
    {
        QedFeatures features = value ? _features | QedFeatures.NeedCheck : _features & ~QedFeatures.NeedCheck;
        if (features != _features)
        {
            await WriteAsync(QedLayout.FeaturesField, (ulong)features).ConfigureAwait(false);
            _features = features;
        }
    }

    /// <summary>Clears what this program would not keep up.</summary>
    public async ValueTask ClearAutoclearAsync()
    {
        if (_autoclear != 0)
        {
            await WriteAsync(QedLayout.AutoclearField, 0).ConfigureAwait(false);
            _autoclear = 0;
        }
    }

    /// <summary>Writes the size of the disk.</summary>
    public ValueTask WriteSizeAsync(long size) => WriteAsync(QedLayout.ImageSizeField, (ulong)size);

    private async ValueTask WriteAsync(int offset, ulong value)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(sizeof(ulong));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.Span, value);
        await file.WriteAsync(offset, bytes.Memory).ConfigureAwait(false);
        await file.FlushAsync().ConfigureAwait(false);
    }
}
