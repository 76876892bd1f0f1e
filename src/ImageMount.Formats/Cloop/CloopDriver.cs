using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Cloop;

/// <summary>Compressed loop images: a file system in zlib blocks of one size; for reading, as everywhere.</summary>
public sealed class CloopDriver : BlockDriver<CloopOptions>
{
    /// <inheritdoc/>
    public override string Name => "cloop";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Compressed loop images (Knoppix), version 2; for reading.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) =>
        input.Head.StartsWith(CloopLayout.Script)
            && input.Head[..Math.Min(input.Head.Length, CloopLayout.PreambleSize)].IndexOf(" Format\n"u8) > 0 ? 90 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, CloopOptions options, CancellationToken cancellationToken)
    {
        ReadOnlyFormat.RefuseWriting(context.Flags, "cloop images are only read: there is no place to change them");
        CloopMap map = await CloopMap.ReadAsync(context.File, cancellationToken).ConfigureAwait(false);
        return new CloopDevice(map, context.File);
    }

    /// <summary>An open image.</summary>
    private sealed class CloopDevice(CloopMap map, BlockNode file) : MappedDevice, ICheckable
    {
        public override BlockCapabilities Capabilities => BlockCapabilities.Map;

        public override BlockLimits Limits { get; } = BlockLimits.Default with { OptimalTransfer = map.BlockSize };

        public override IReadOnlyList<BlockChild> Children { get; } = [new("file", file)];

        protected override IExtentMap Map => map;

        public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
        {
            info.Compressed = true;
            info.FormatSpecific.Add(new("block-size", (long)map.BlockSize));
            return default;
        }

        /// <summary>Decodes every block; each has a checksum of its own.</summary>
        public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
        {
            var report = new CheckReport
            {
                TotalClusters = map.BlockCount,
                AllocatedClusters = map.BlockCount,
                CompressedClusters = map.BlockCount,
                ImageEndOffset = map.EndOfBlocks,
            };
            using Core.Memory.BufferLease block = Core.Memory.BufferPool.Shared.Rent(map.BlockSize);
            for (long i = 0; i < map.BlockCount; i++)
            {
                try
                {
                    await ReadAsync(i * map.BlockSize, block.Memory, cancellationToken).ConfigureAwait(false);
                }
                catch (BlockException e) when (e.Kind is not BlockErrorKind.Cancelled)
                {
                    report.Corruption($"block {i} cannot be read: {e.Describe()}");
                }
            }

            return report;
        }
    }
}
