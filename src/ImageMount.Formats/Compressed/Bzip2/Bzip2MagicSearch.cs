using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>A place that looks like the beginning of a block or the end of a stream.</summary>
/// <param name="Bit">Where, in bits from the beginning of the file.</param>
/// <param name="IsEnd">True for the end of a stream.</param>
internal readonly record struct Bzip2Mark(long Bit, bool IsEnd);

/// <summary>Finds the two magics at every bit of a file.</summary>
internal static class Bzip2MagicSearch
{
    private const ulong Mask = (1UL << Bzip2Layout.MagicBits) - 1;
    private const int Reach = 8;

    /// <summary>
    /// By the byte two after a place: at which of its 8 bits either magic can begin, one bit for each.
    /// </summary>
    private static readonly byte[] s_candidates = MakeCandidates();

    /// <summary>All places, in order.</summary>
    public static async ValueTask<List<Bzip2Mark>> RunAsync(
        BlockNode file, long maxBytes, IProgress<OpenProgress>? progress, CancellationToken cancellationToken)
    {
        var marks = new List<Bzip2Mark>();
        using var reader = new ForwardReader(file, progress);
        while (await reader.FillAsync(Reach, cancellationToken).ConfigureAwait(false))
        {
            int count = reader.IsLast ? reader.Bytes.Length : reader.Bytes.Length - Reach + 1;
            Search(reader.Bytes, count, reader.Position, marks);
            if (marks.Count * 16L > maxBytes)
            {
                throw BlockException.Limit(
                    "the bzip2 file has too many blocks (option index-memory)", marks.Count, maxBytes / 16,
                    reader.Position);
            }

            reader.Skip(count);
        }

        return marks;
    }

    private static void Search(ReadOnlySpan<byte> bytes, int count, long position, List<Bzip2Mark> marks)
    {
        Span<byte> padded = stackalloc byte[Reach];
        for (int at = 0; at < count; at++)
        {
            if (at + 2 < bytes.Length && s_candidates[bytes[at + 2]] == 0)
            {
                continue;
            }

            ReadOnlySpan<byte> here = bytes.Slice(at, Math.Min(Reach, bytes.Length - at));
            padded.Clear();
            here.CopyTo(padded);
            ulong word = BinaryPrimitives.ReadUInt64BigEndian(padded);
            for (int shift = 0; shift < 8; shift++)
            {
                ulong value = (word >> (64 - Bzip2Layout.MagicBits - shift)) & Mask;
                if (value is Bzip2Layout.BlockMagic or Bzip2Layout.EndMagic)
                {
                    marks.Add(new Bzip2Mark(((position + at) * 8) + shift, value == Bzip2Layout.EndMagic));
                }
            }
        }
    }

    private static byte[] MakeCandidates()
    {
        var table = new byte[256];
        for (int shift = 0; shift < 8; shift++)
        {
            foreach (ulong magic in (ulong[])[Bzip2Layout.BlockMagic, Bzip2Layout.EndMagic])
            {
                ulong placed = magic << (64 - Bzip2Layout.MagicBits - shift);
                table[(placed >> 40) & 0xff] |= (byte)(1 << shift);
            }
        }

        return table;
    }
}
