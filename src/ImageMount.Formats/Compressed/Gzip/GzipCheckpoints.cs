using System.IO.Compression;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>What is needed, besides its place, to decode a piece of a deflate stream on its own.</summary>
/// <param name="Window">Output that came before, as <see cref="GzipCheckpoints.Pack"/> keeps it; null at a member's
/// start.</param>
/// <param name="Crc">CRC-32 of the unit's content.</param>
/// <param name="Bits">Bits of the first stored byte that belong to the unit, 1…7; 0: all.</param>
/// <param name="EndsStream">True when the deflate stream ends with the unit.</param>
/// <param name="HasCrc">False where no CRC of the unit is known.</param>
internal readonly record struct GzipCheckpoint(byte[]? Window, uint Crc, byte Bits, bool EndsStream, bool HasCrc)
{
    /// <summary>Memory that it takes, bytes.</summary>
    public int Bytes => 24 + (Window is null ? 0 : Window.Length + 24);
}

/// <summary>
/// The units of a gzip file with what it takes to begin at each. When the index gets too large, neighbours are joined
/// two and two, and from then on twice as far apart: memory stays bounded, and random reads decode more.
/// </summary>
internal sealed class GzipCheckpoints(PackedIndex index, long distance)
{
    private List<GzipCheckpoint> _checkpoints = [];

    /// <summary>The units.</summary>
    public PackedIndex Index => index;

    /// <summary>Unpacked bytes between checkpoints, as they are made now.</summary>
    public long Distance { get; private set; } = distance;

    /// <summary>What belongs to a unit.</summary>
    public GzipCheckpoint this[int unit] => _checkpoints[unit];

    /// <summary>Adds the unit that follows.</summary>
    public void Add(long length, long hostOffset, long storedLength, in GzipCheckpoint checkpoint)
    {
        index.Add(length, hostOffset, storedLength, checkpoint.Bytes);
        _checkpoints.Add(checkpoint);
        if (index.IsTooLarge)
        {
            Thin();
        }
    }

    /// <summary>Adds zeroes, which need nothing to begin with; joined to zeroes before them.</summary>
    public void AddZeroes(long length, long hostOffset)
    {
        if (index.Count > 0 && index[index.Count - 1] is { IsZero: true } last
            && length <= long.MaxValue - last.GuestEnd)
        {
            index.ReplaceLast(last with { Length = last.Length + length });
            return;
        }

        Add(length, hostOffset, 0, default);
    }

    /// <summary>Makes a window small: half of it or less, most of the time.</summary>
    public static byte[] Pack(ReadOnlySpan<byte> window)
    {
        var packed = new MemoryStream(window.Length / 2);
        using (var deflate = new DeflateStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            deflate.Write(window);
        }

        return packed.ToArray();
    }

    /// <summary>The window as it was; gives its length.</summary>
    public static int Unpack(byte[] packed, Span<byte> window)
    {
        using var inflate = new DeflateStream(new MemoryStream(packed), CompressionMode.Decompress);
        return inflate.ReadAtLeast(window, window.Length, throwOnEndOfStream: false);
    }

    private void Thin()
    {
        PackedUnit[] units = index.TakeAll();
        List<GzipCheckpoint> old = _checkpoints;
        _checkpoints = new List<GzipCheckpoint>(units.Length / 2);
        for (int i = 0; i < units.Length; i++)
        {
            PackedUnit unit = units[i];
            GzipCheckpoint checkpoint = old[i];
            if (i + 1 < units.Length && CanJoin(unit, checkpoint, units[i + 1], old[i + 1]))
            {
                PackedUnit next = units[i + 1];
                GzipCheckpoint last = old[i + 1];
                checkpoint = checkpoint with
                {
                    Crc = InflateStreamDecoder.CombineCrc32(checkpoint.Crc, last.Crc, next.Length),
                    EndsStream = last.EndsStream,
                };
                unit = unit with
                {
                    Length = unit.Length + next.Length,
                    StoredLength = next.HostOffset + next.StoredLength - unit.HostOffset,
                };
                i++;
            }

            index.Add(unit.Length, unit.HostOffset, unit.StoredLength, checkpoint.Bytes);
            _checkpoints.Add(checkpoint);
        }

        Distance *= 2;
        index.CheckSize();
    }

    private static bool CanJoin(
        in PackedUnit unit, in GzipCheckpoint checkpoint, in PackedUnit next, in GzipCheckpoint last) =>
        !unit.IsZero && !next.IsZero && !checkpoint.EndsStream && checkpoint.HasCrc && last.HasCrc;
}
