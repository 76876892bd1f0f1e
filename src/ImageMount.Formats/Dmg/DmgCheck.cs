using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// Verifies an image by its own checksums: decodes every run and compares the CRC-32 of each table, of each file's data
/// fork, and the master checksum over the tables' ones. Checksums of other types
/// cannot be verified (nobody has published them), which is noted. Also says where tables
/// do not cover what they should.
/// </summary>
internal sealed class DmgCheck(DmgDevice device)
{
    private const int Step = 1 << 20;
    private readonly CheckReport _report = new()
    {
        TotalClusters = 0,
        AllocatedClusters = 0,
        CompressedClusters = 0,
    };

    /// <summary>Runs the check.</summary>
    public async ValueTask<CheckReport> RunAsync(CancellationToken cancellationToken)
    {
        foreach (DmgSegment segment in device.Segments)
        {
            await CheckForkAsync(segment, cancellationToken).ConfigureAwait(false);
        }

        DmgTables tables = device.Tables;
        var all = new Crc32();
        bool allKnown = true;
        foreach (DmgTable table in tables.Tables)
        {
            DmgRun[] runs = tables.Runs.Slice(table.FirstRun, table.RunCount).ToArray();
            CheckShape(table, runs);
            await CheckTableAsync(table, runs, cancellationToken).ConfigureAwait(false);
            allKnown &= table.Checksum.IsCrc32;
            Append(ref all, table.Checksum.Value);
        }

        DmgHeader header = device.Segments[0].Header;
        if (tables.End != header.Sectors * DmgLayout.SectorSize)
        {
            _report.Corruption(
                $"the trailer says {header.Sectors} sectors, the tables {tables.End / DmgLayout.SectorSize}");
        }

        const string Master = "the block tables' checksums";
        if (header.MasterChecksum.IsCrc32 && !allKnown)
        {
            _report.Note($"{Master} are not all CRC-32, so the checksum of them is not verified");
        }
        else if (IsVerifiable(Master, header.MasterChecksum))
        {
            Compare(Master, header.MasterChecksum, all.Value);
        }

        _report.ImageEndOffset = device.Segments[^1].Node.Length;
        return _report;
    }

    private static void Append(ref Crc32 crc, uint value)
    {
        var stored = new Be32(value);
        crc.Append(System.Runtime.InteropServices.MemoryMarshal.AsBytes(new ReadOnlySpan<Be32>(in stored)));
    }

    private async ValueTask CheckForkAsync(DmgSegment segment, CancellationToken cancellationToken)
    {
        DmgHeader header = segment.Header;
        string name = $"the data fork of '{segment.Node.Name}'";
        if (!IsVerifiable(name, header.DataChecksum))
        {
            return;
        }

        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        var crc = new Crc32();
        for (long at = 0; at < header.DataLength; at += Step)
        {
            Memory<byte> part = buffer.Memory[..(int)Math.Min(Step, header.DataLength - at)];
            await segment.Node.ReadAsync(header.DataOffset + at, part, cancellationToken).ConfigureAwait(false);
            crc.Append(part.Span);
        }

        Compare(name, header.DataChecksum, crc.Value);
    }

    private void CheckShape(DmgTable table, DmgRun[] runs)
    {
        foreach (DmgRun run in runs)
        {
            _report.TotalClusters++;
            _report.AllocatedClusters += run.IsZero ? 0 : 1;
            _report.CompressedClusters += run.IsCompressed ? 1 : 0;
            if (run.Start < table.Start || run.End > table.Start + table.Length)
            {
                _report.Corruption($"'{table.Name}': the run for 0x{run.Start:x} lies outside the table's sectors");
            }
        }

        long covered = device.Tables.CoveredBytes(table);
        if (covered < table.Length)
        {
            _report.Corruption(
                $"'{table.Name}': {(table.Length - covered) / DmgLayout.SectorSize} sectors are in no block run");
        }
    }

    private async ValueTask CheckTableAsync(DmgTable table, DmgRun[] runs, CancellationToken cancellationToken)
    {
        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        var crc = new Crc32();
        bool isWhole = true;
        foreach (DmgRun run in runs)
        {
            if (run.Type == DmgRunType.Zero)
            {
                crc.AppendZeroes(run.Length);
            }
            else if (run.Type != DmgRunType.Ignore)
            {
                try
                {
                    crc = await ReadRunAsync(run, buffer.Memory, crc, cancellationToken).ConfigureAwait(false);
                }
                catch (BlockException e) when (e.Kind is not BlockErrorKind.Cancelled)
                {
                    _report.Corruption($"'{table.Name}': 0x{run.Start:x} cannot be read: {e.Describe()}");
                    isWhole = false;
                }
            }
        }

        if (IsVerifiable($"'{table.Name}'", table.Checksum) && isWhole)
        {
            Compare($"'{table.Name}'", table.Checksum, crc.Value);
        }
    }

    private async ValueTask<Crc32> ReadRunAsync(
        DmgRun run, Memory<byte> buffer, Crc32 crc, CancellationToken cancellationToken)
    {
        for (long at = run.Start; at < run.End; at += buffer.Length)
        {
            Memory<byte> part = buffer[..(int)Math.Min(buffer.Length, run.End - at)];
            await device.ReadAsync(at, part, cancellationToken).ConfigureAwait(false);
            crc.Append(part.Span);
        }

        return crc;
    }

    /// <summary>True for a CRC-32; another checksum is noted, a missing one is no news.</summary>
    private bool IsVerifiable(string what, DmgChecksum checksum)
    {
        if (checksum is { IsCrc32: false, Type: not 0 })
        {
            _report.Note($"{what} has a checksum of type {checksum.Type}, which is not verified");
        }

        return checksum.IsCrc32;
    }

    private void Compare(string what, DmgChecksum expected, uint found)
    {
        if (expected.Value != found)
        {
            _report.Corruption($"{what} has the checksum {found:x8}, not {expected.Value:x8}");
        }
    }
}
