using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// What a format knows of a compressed file once it is open: its units and how one of them is decoded. Used by any
/// number of threads at once.
/// </summary>
internal abstract class PackedContent(BlockNode file, PackedIndex index)
{
    /// <summary>The compressed file.</summary>
    public BlockNode File { get; } = file;

    /// <summary>Its units.</summary>
    public PackedIndex Index { get; } = index;

    /// <summary>Begins to decode a unit that is not all zeroes.</summary>
    public abstract UnitStream Begin(int unit);

    /// <summary>True when the format can tell at the end of a unit whether it was decoded right.</summary>
    public virtual bool HasCheck(int unit) => true;

    /// <summary>
    /// Decodes small units in one go, where the format has something faster than <see cref="Begin"/>.
    /// </summary>
    public virtual Mapped.IUnitDecoder? WholeUnits => null;

    /// <summary>Adds what `info` shows of this format.</summary>
    public virtual void Describe(DeviceInfo info)
    {
    }
}
