using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>
/// Makes dynamic and static images: header, table at 1 MiB, blocks from the next whole MiB on, as VirtualBox lays them
/// out. The header comes last.
/// </summary>
internal sealed class VdiCreator : ImageCreator<VdiCreateOptions>
{
    private const int Alignment = 1 << 20;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, VdiCreateOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        long blocks = (options.Size + VdiLayout.BlockSize - 1) / VdiLayout.BlockSize;
        if (options.Size > (long)BlockTableLayout.MaxEntries * VdiLayout.BlockSize)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the disk is too large for a VDI image")
            {
                Found = $"{options.Size}",
                Expected = $"at most {(long)BlockTableLayout.MaxEntries * VdiLayout.BlockSize}",
            };
        }

        long data = Alignment + (((blocks * sizeof(uint)) + Alignment - 1) / Alignment * Alignment);
        data = Math.Max(data, 2 * Alignment);
        long length = data + (options.Static ? blocks * VdiLayout.BlockSize : 0);
        if (!await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"'{file.Name}' cannot grow");
        }

        await WriteTableAsync(file, (int)blocks, options.Static, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        byte[] header = MakeHeader(options, (uint)blocks, (uint)data);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask WriteTableAsync(
        BlockNode file, int blocks, bool isStatic, CancellationToken cancellationToken)
    {
        const int Step = 64 << 10;
        var entries = new uint[Math.Min(Step, blocks)];
        using BufferLease bytes = BufferPool.Shared.Rent(Step * sizeof(uint));
        for (int first = 0; first < blocks; first += Step)
        {
            int count = Math.Min(Step, blocks - first);
            for (int i = 0; i < count; i++)
            {
                entries[i] = isStatic ? (uint)(first + i) : VdiLayout.FreeBlock;
            }

            BlockTable.Store(entries.AsSpan(0, count), bytes.Span, bigEndian: false);
            await file.WriteAsync(
                Alignment + ((long)first * sizeof(uint)), bytes.Memory[..(count * sizeof(uint))], WriteFlags.None,
                cancellationToken).ConfigureAwait(false);
        }
    }

    private static byte[] MakeHeader(VdiCreateOptions options, uint blocks, uint data)
    {
        var bytes = new byte[512];
        Encoding.ASCII.GetBytes("<<< ImageMount VirtualBox Disk Image >>>\n", bytes);
        Core.Bits.Le32 signature = VdiLayout.Signature;
        Core.Bits.Le32 version = VdiLayout.Version11;
        MemoryMarshal.Write(bytes.AsSpan(VdiLayout.SignatureOffset), in signature);
        MemoryMarshal.Write(bytes.AsSpan(VdiLayout.SignatureOffset + 4), in version);
        var header = new VdiHeader11
        {
            HeaderSize = VdiLayout.HeaderSize,
            Type = (uint)(options.Static ? VdiType.Static : VdiType.Dynamic),
            TableOffset = Alignment,
            DataOffset = data,
            SectorSize = 512,
            DiskSize = (ulong)options.Size,
            BlockSize = VdiLayout.BlockSize,
            Blocks = blocks,
            BlocksAllocated = options.Static ? blocks : 0,
        };
        Guid.NewGuid().TryWriteBytes(header.CreateId);
        Guid.NewGuid().TryWriteBytes(header.ModifyId);
        MemoryMarshal.Write(bytes.AsSpan(VdiLayout.PreHeaderSize), in header);
        return bytes;
    }
}
