using ImageMount.Core.Graph;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>A valid image to be damaged, whole in memory.</summary>
/// <param name="Name">For messages.</param>
/// <param name="Bytes">The image file.</param>
public sealed record SeedImage(string Name, byte[] Bytes)
{
    /// <summary>Other files of the image, by the name under which it refers to them.</summary>
    public IReadOnlyDictionary<string, byte[]> Companions { get; init; } = new Dictionary<string, byte[]>();
}

/// <summary>What the fuzzers need to know of a format. A new format adds one line to <see cref="HostileFormats"/>.</summary>
public sealed record HostileFormat(string Name, BlockDriver Driver)
{
    /// <summary>Valid images to start from.</summary>
    public required Func<IReadOnlyList<SeedImage>> Seeds { get; init; }

    /// <summary>Every number of an image that leads somewhere: header fields, table entries.</summary>
    public required Func<byte[], IReadOnlyList<Field>> Fields { get; init; }

    /// <summary>Offsets at which a structure begins or ends, to truncate there.</summary>
    public required Func<byte[], IReadOnlyList<long>> Boundaries { get; init; }

    /// <summary>Ranges that hold metadata, where random mutations hit more often than in payload.</summary>
    public required Func<byte[], IReadOnlyList<(long Start, long Count)>> Metadata { get; init; }

    /// <summary>Makes checksums right again after damage, so that what lies behind them is reached.</summary>
    public Action<byte[]>? Seal { get; init; }

    /// <summary>How qemu opens such an image, without the file; null: by the driver's name alone.</summary>
    public string? PeerOptions { get; init; }

    /// <summary>False where qemu has no such format.</summary>
    public bool HasPeer { get; init; } = true;

    /// <summary>False for formats without structure, where there is nothing to set to extremes.</summary>
    public bool HasFields { get; init; } = true;

    public override string ToString() => Name;
}
