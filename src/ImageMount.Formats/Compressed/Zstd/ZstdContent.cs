using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>A zstd file whose frames are known.</summary>
internal sealed class ZstdContent(
    BlockNode file, PackedIndex index, List<bool> hasChecksum, string indexedBy, long decoderMemory)
    : PackedContent(file, index)
{
    /// <inheritdoc/>
    public override IUnitDecoder WholeUnits => ZstdDecoder.Instance;

    /// <summary>Largest window, as the library wants to be told: a power of two.</summary>
    public static int WindowLog(long memory) => Math.Clamp(BitOperations.Log2((ulong)memory), 10, 31);

    /// <inheritdoc/>
    public override UnitStream Begin(int unit) => new Frame(WindowLog(decoderMemory));

    /// <inheritdoc/>
    public override bool HasCheck(int unit) => hasChecksum[unit];

    /// <inheritdoc/>
    public override void Describe(DeviceInfo info)
    {
        info.FormatSpecific.Add(new("indexed-by", indexedBy));
        info.FormatSpecific.Add(new("checksums", hasChecksum.TrueForAll(has => has)));
    }

    private sealed class Frame(int windowLog) : UnitStream
    {
        private readonly ZstdFrameDecoder _decoder = new(windowLog);

        public override bool Step(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given) =>
            IsEnd(_decoder, _decoder.Decode(stored, decoded, out taken, out given), "a zstd frame");

        public override void Dispose() => _decoder.Dispose();
    }
}
