using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>The header that counts, of the two there are (2.2.2).</summary>
/// <param name="Slot">0 or 1: which of the two it is.</param>
/// <param name="SequenceNumber">Grows with every update.</param>
/// <param name="FileWriteGuid">Changes with the first change of the file after opening.</param>
/// <param name="DataWriteGuid">Changes with the first change of the disk after opening; children know it.</param>
/// <param name="LogGuid">Names the entries of the log that count; empty when there are none.</param>
/// <param name="LogOffset">Place of the log, bytes.</param>
/// <param name="LogLength">Bytes of the log.</param>
internal sealed record VhdxHeader(
    int Slot, ulong SequenceNumber, Guid FileWriteGuid, Guid DataWriteGuid, Guid LogGuid, long LogOffset,
    long LogLength)
{
    /// <summary>Reads the file identifier and chooses the current header.</summary>
    /// <exception cref="BlockException">InvalidData: other format, no valid header, impossible log.</exception>
    public static async ValueTask<VhdxHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        if (file.Length < VhdxLayout.HeaderSectionSize)
        {
            throw BlockException.Invalid(
                "the file is too short for a VHDX", null, $"{file.Length} bytes",
                $"at least {VhdxLayout.HeaderSectionSize}");
        }

        using BufferLease bytes = BufferPool.Shared.Rent(VhdxLayout.HeaderSize);
        await file.ReadAsync(0, bytes.Memory, cancellationToken).ConfigureAwait(false);
        if (!HasSignature(bytes.Span))
        {
            throw BlockException.Invalid("this is no VHDX: the file identifier is missing", 0);
        }

        await file.ReadAsync(VhdxLayout.Header1Offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        VhdxHeader? first = TryParse(bytes.Span, 0, out ushort firstVersion);
        byte[] firstBytes = bytes.Span.ToArray();
        await file.ReadAsync(VhdxLayout.Header2Offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        VhdxHeader? second = TryParse(bytes.Span, 1, out ushort secondVersion);
        VhdxHeader current;
        if (first is null && second is null)
        {
            ushort version = firstVersion != 0 ? firstVersion : secondVersion;
            throw version is 0 or 1
                ? BlockException.Invalid("both headers are damaged", VhdxLayout.Header1Offset)
                : BlockException.Unsupported($"version {version} of the format is not supported");
        }
        else if (first is null || second is null)
        {
            current = first ?? second!;
        }
        else if (first.SequenceNumber != second.SequenceNumber)
        {
            current = first.SequenceNumber > second.SequenceNumber ? first : second;
        }
        else if (firstBytes.AsSpan().SequenceEqual(bytes.Span))
        {
            current = first; // Disk2vhd writes one header twice.
        }
        else
        {
            throw BlockException.Invalid(
                "the two headers differ and neither is the newer one", VhdxLayout.Header1Offset,
                $"sequence number {first.SequenceNumber} twice");
        }

        current.Check(file.Length);
        return current;
    }

    /// <summary>True when a file begins like this format.</summary>
    public static bool HasSignature(ReadOnlySpan<byte> head) =>
        new SpanReader(head).TryRead(out Le64 signature) && signature == VhdxLayout.FileSignature;

    /// <summary>The program that made the file, as it calls itself.</summary>
    public static async ValueTask<string> ReadCreatorAsync(BlockNode file, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(VhdxLayout.CreatorSize);
        await file.ReadAsync(VhdxLayout.CreatorOffset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        string text = Encoding.Unicode.GetString(bytes.Span);
        int end = text.IndexOf('\0');
        return new string([.. (end < 0 ? text : text[..end]).Where(c => !char.IsControl(c) && !char.IsSurrogate(c))]);
    }

    /// <summary>Stores the header, with its checksum, in 4096 bytes.</summary>
    public void Store(Span<byte> bytes)
    {
        bytes[..VhdxLayout.HeaderSize].Clear();
        var raw = new VhdxRawHeader
        {
            Signature = VhdxLayout.HeaderSignature,
            SequenceNumber = SequenceNumber,
            FileWriteGuid = FileWriteGuid,
            DataWriteGuid = DataWriteGuid,
            LogGuid = LogGuid,
            Version = 1,
            LogLength = (uint)LogLength,
            LogOffset = (ulong)LogOffset,
        };
        MemoryMarshal.Write(bytes, raw);
        raw.Checksum = VhdxLayout.Checksum(bytes[..VhdxLayout.HeaderSize]);
        MemoryMarshal.Write(bytes, raw);
    }

    private static VhdxHeader? TryParse(ReadOnlySpan<byte> bytes, int slot, out ushort version)
    {
        version = 0;
        var reader = new SpanReader(bytes);
        if (!reader.TryRead(out VhdxRawHeader raw) || raw.Signature != VhdxLayout.HeaderSignature
            || raw.Checksum != VhdxLayout.Checksum(bytes))
        {
            return null;
        }

        version = raw.Version;
        if (version != 1)
        {
            return null;
        }

        if (raw.LogVersion != 0 && raw.LogGuid.Value != Guid.Empty)
        {
            throw BlockException.Unsupported($"version {raw.LogVersion} of the log is not supported");
        }

        return raw.LogOffset > long.MaxValue
            ? throw BlockException.Invalid(
                "the log has an impossible place",
                (slot == 0 ? VhdxLayout.Header1Offset : VhdxLayout.Header2Offset) + 72,
                $"0x{raw.LogOffset.Value:x}")
            : new VhdxHeader(
                slot, raw.SequenceNumber, raw.FileWriteGuid, raw.DataWriteGuid, raw.LogGuid, (long)raw.LogOffset.Value,
                raw.LogLength);
    }

    private void Check(long fileLength)
    {
        long at = (Slot == 0 ? VhdxLayout.Header1Offset : VhdxLayout.Header2Offset) + 68;
        if (LogLength % VhdxLayout.MiB != 0)
        {
            throw BlockException.Invalid(
                "the log's length is not a multiple of 1 MiB", at, LogLength.ToString(CultureInfo.InvariantCulture));
        }

        if (LogLength == 0)
        {
            if (LogGuid != Guid.Empty)
            {
                throw BlockException.Invalid("the header asks for a log to be replayed, but there is no log", at);
            }

            return;
        }

        if (LogOffset % VhdxLayout.MiB != 0 || LogOffset < VhdxLayout.HeaderSectionSize
            || LogOffset > fileLength - LogLength)
        {
            throw BlockException.Invalid(
                "the log has an impossible place", at + 4, $"0x{LogOffset:x}+0x{LogLength:x}",
                $"a multiple of 1 MiB inside the file of 0x{fileLength:x} bytes");
        }
    }
}
