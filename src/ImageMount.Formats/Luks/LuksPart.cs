using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>A segment with its key: where its bytes are, and how they are decrypted.</summary>
internal sealed class LuksPart : IDisposable
{
    private readonly ISectorCipher _cipher;
    private readonly ulong _tweak;

    public LuksPart(LuksSegment segment, long start, ReadOnlySpan<byte> key)
    {
        Segment = segment;
        Start = start;
        _tweak = segment.IvTweak;
        _cipher = segment.Cipher.Create(key, segment.SectorSize);
    }

    public LuksSegment Segment { get; }

    /// <summary>Its first byte in the disk.</summary>
    public long Start { get; }

    /// <summary>Where a byte of the disk is in the data.</summary>
    public long HostOffset(long guestOffset) => Segment.Offset + (guestOffset - Start);

    public void Decrypt(long guestOffset, Span<byte> bytes) => _cipher.Decrypt(Sector(guestOffset), bytes);

    public void Encrypt(long guestOffset, Span<byte> bytes) => _cipher.Encrypt(Sector(guestOffset), bytes);

    public void Dispose() => _cipher.Dispose();

    /// <summary>Makes the parts of a disk; what was made is disposed when a key does not fit.</summary>
    public static LuksPart[] MakeAll(LuksHeader header, LuksKeys keys)
    {
        var parts = new List<LuksPart>();
        try
        {
            long start = 0;
            foreach (LuksSegment segment in header.Segments)
            {
                parts.Add(new LuksPart(segment, start, keys[segment.Digest].Span));
                start = checked(start + (segment.Size ?? 0));
            }

            return [.. parts];
        }
        catch (Exception e)
        {
            parts.ForEach(part => part.Dispose());
            throw e is OverflowException ? BlockException.Invalid("the segments are too large together") : e;
        }
    }

    private ulong Sector(long guestOffset) => _tweak + ((ulong)(guestOffset - Start) / LuksLayout.Sector);
}
