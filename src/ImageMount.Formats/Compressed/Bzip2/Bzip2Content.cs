using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>A bzip2 file whose blocks are known.</summary>
internal sealed class Bzip2Content(BlockNode file, PackedIndex index, List<Bzip2Place> places, int streams)
    : PackedContent(file, index)
{
    /// <inheritdoc/>
    public override UnitStream Begin(int unit) => new Bzip2Block(places[unit]);

    /// <inheritdoc/>
    public override void Describe(DeviceInfo info) => info.FormatSpecific.Add(new("streams", (long)streams));
}
