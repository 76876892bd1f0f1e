using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Iscsi;

/// <summary>Reads answers to GET LBA STATUS (SBC-3, 5.4.2).</summary>
internal static class LbaStatus
{
    private const int HeaderLength = 8;

    /// <summary>
    /// The ranges of an answer from a block on, without gaps; what does not follow on what came before ends the list, and
    /// what is not said to be unmapped is data.
    /// </summary>
    /// <param name="answer">What came.</param>
    /// <param name="block">What was asked about.</param>
    /// <param name="blockLength">Bytes.</param>
    /// <param name="length">Of the disk, bytes.</param>
    public static List<BlockExtent> Parse(ReadOnlySpan<byte> answer, long block, int blockLength, long length)
    {
        var extents = new List<BlockExtent>();
        var reader = new SpanReader(answer);
        if (!reader.TryRead(out Be32 told) || !reader.TrySeek(HeaderLength))
        {
            return extents;
        }

        long next = block;
        long end = Math.Min(answer.Length, (long)told.Value + sizeof(uint));
        while (reader.Position + 16 <= end && reader.TryRead(out ScsiLbaStatus status))
        {
            // The first range may begin before what was asked about.
            ulong last = status.Address.Value + status.Blocks.Value;
            if (status.Address.Value > (ulong)next || last <= (ulong)next || last < status.Address.Value
                || (status.Address.Value != (ulong)next && extents.Count > 0))
            {
                break;
            }

            long stop = (long)Math.Min(last, (ulong)(length / blockLength));
            if (stop <= next)
            {
                break;
            }

            bool isHole = (status.State & 0x0F) is 1 or 2;
            extents.Add(new BlockExtent(
                (stop - next) * blockLength,
                ExtentFlags.Present | (isHole ? ExtentFlags.Zero : ExtentFlags.Data)));
            next = stop;
        }

        return extents;
    }
}
