using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped;

/// <summary>Where the bytes of a guest range come from.</summary>
public enum RunKind : byte
{
    /// <summary>Reads as zeroes by this image's own word.</summary>
    Zero,

    /// <summary>Stored as they are, at a place in a child node.</summary>
    Data,

    /// <summary>Not defined here: the parent answers, or zeroes where there is no parent or it is shorter.</summary>
    Parent,

    /// <summary>Stored inside a compressed unit.</summary>
    Compressed,
}

/// <summary>
/// A run of guest bytes with one origin: what a format's tables say about the first <see cref="Length"/> bytes of a
/// range. Adjacent units that are adjacent on the host too are one run.
/// </summary>
public readonly record struct MappedRun
{
    /// <summary>Where the bytes come from.</summary>
    public RunKind Kind { get; private init; }

    /// <summary>True for zeroes that have space reserved (a preallocated zero cluster at <see cref="HostOffset"/>).</summary>
    public bool IsAllocated { get; private init; }

    /// <summary>Bytes; at least 1 and at most what was asked for.</summary>
    public long Length { get; private init; }

    /// <summary>The node that stores the bytes, for data and allocated zeroes.</summary>
    public BlockNode? Source { get; private init; }

    /// <summary>Byte offset in <see cref="Source"/>.</summary>
    public long HostOffset { get; private init; }

    /// <summary>The unit that holds the run, for compressed data.</summary>
    public CompressedUnit Unit { get; private init; }

    /// <summary>Zeroes with nothing stored.</summary>
    public static MappedRun Zero(long length) => new() { Kind = RunKind.Zero, Length = length };

    /// <summary>Zeroes with reserved space.</summary>
    public static MappedRun AllocatedZero(long length, BlockNode source, long hostOffset) =>
        new() { Kind = RunKind.Zero, IsAllocated = true, Length = length, Source = source, HostOffset = hostOffset };

    /// <summary>Stored bytes.</summary>
    public static MappedRun Data(long length, BlockNode source, long hostOffset) =>
        new() { Kind = RunKind.Data, IsAllocated = true, Length = length, Source = source, HostOffset = hostOffset };

    /// <summary>The parent's bytes at the same guest offset.</summary>
    public static MappedRun Parent(long length) => new() { Kind = RunKind.Parent, Length = length };

    /// <summary>Bytes inside a compressed unit.</summary>
    public static MappedRun Compressed(long length, in CompressedUnit unit) =>
        new() { Kind = RunKind.Compressed, IsAllocated = true, Length = length, Unit = unit };

    /// <summary>The same run, shortened.</summary>
    public MappedRun Clip(long length) => this with { Length = Math.Min(length, Length) };
}

/// <summary>A unit that is stored compressed and has to be decoded as a whole.</summary>
/// <param name="Source">The node that stores it.</param>
/// <param name="HostOffset">Byte offset of the stored form.</param>
/// <param name="StoredLength">Bytes to read for it; may include slack after the end of the compressed stream.</param>
/// <param name="GuestOffset">Guest offset of the unit's first byte.</param>
/// <param name="Length">Bytes when decoded.</param>
/// <param name="Decoder">How to decode it.</param>
public readonly record struct CompressedUnit(
    BlockNode Source, long HostOffset, int StoredLength, long GuestOffset, int Length, IUnitDecoder Decoder);

/// <summary>Decodes one unit. Stateless or thread-safe; called from any number of threads at once.</summary>
public interface IUnitDecoder
{
    /// <summary>
    /// Decodes <paramref name="stored"/> into exactly <paramref name="decoded"/>. Input that is damaged or too short
    /// throws <see cref="BlockException"/> of kind InvalidData; input after the end of the stream is ignored.
    /// </summary>
    void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded);

    /// <summary>The same, for formats whose stored form repeats where it belongs and can be verified.</summary>
    void Decode(in CompressedUnit unit, ReadOnlySpan<byte> stored, Span<byte> decoded) => Decode(stored, decoded);
}

/// <summary>
/// A decoder that can stop early, for formats without a checksum over the unit: where there is one, no byte of a unit
/// may be shown before all of it was decoded and verified.
/// </summary>
public interface IPrefixDecoder : IUnitDecoder
{
    /// <summary>
    /// Decodes the first bytes of a unit that is longer than <paramref name="decoded"/>. Damage behind them goes unseen.
    /// </summary>
    void DecodePrefix(ReadOnlySpan<byte> stored, Span<byte> decoded);
}
