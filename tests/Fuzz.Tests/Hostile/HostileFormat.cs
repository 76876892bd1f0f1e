using ImageMount.Core.Graph;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>A valid image to be damaged, whole in memory.</summary>
/// <param name="Name">For messages.</param>
/// <param name="Bytes">The image file.</param>
public sealed record SeedImage(string Name, byte[] Bytes)
{
    /// <summary>Other files of the image, by the name under which it refers to them.</summary>
    public IReadOnlyDictionary<string, byte[]> Companions { get; init; } = new Dictionary<string, byte[]>();

    /// <summary>The user says that there is no parent (<c>backing=</c>).</summary>
    public bool ParentLeftOut { get; init; }

    /// <summary>The parent that the user names, where the image cannot; null when there is none.</summary>
    public byte[]? GivenParent { get; init; }

    /// <summary>False for an image that the format's peer misunderstands or refuses even when it is whole.</summary>
    public bool HasPeer { get; init; } = true;

    /// <summary>
    /// The damaged bytes are the child of this role, which the user names, beside <see cref="File"/>; null: they are the
    /// file itself.
    /// </summary>
    public string? Role { get; init; }

    /// <summary>The file where the damaged bytes are not it; it stays whole.</summary>
    public byte[] File { get; init; } = [];

    /// <summary>
    /// Text of an image that has the damaged file, named "damaged" beside it, as a part: what a peer opens that cannot
    /// open the part alone. Null: the file itself.
    /// </summary>
    public string? Wrapper { get; init; }
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

    /// <summary>
    /// Makes the checksums of a damaged image right, so that what they protect is reached; done to most cases.
    /// </summary>
    public Action<byte[]>? Seal { get; init; }

    /// <summary>How qemu opens such an image, without the file; null: by the driver's name alone.</summary>
    public string? PeerOptions { get; init; }

    /// <summary>False for formats without structure, where there is nothing to set to extremes.</summary>
    public bool HasFields { get; init; } = true;

    /// <summary>True where checksums cover all of a file, so that no damage at all is read past.</summary>
    public bool EveryByteIsChecked { get; init; }

    /// <summary>
    /// Where qemu does not know the format: writes what another peer makes of a damaged file into a flat one; false
    /// when it refuses. Null: qemu is asked.
    /// </summary>
    public Func<string, string, bool>? Peer { get; init; }

    /// <summary>False for formats that are only read: opening them for writing would end every case at once.</summary>
    public bool IsWritable { get; init; } = true;

    /// <summary>False for formats that qemu does not read.</summary>
    public bool HasPeer { get; init; } = true;

    /// <summary>Passphrases of the images.</summary>
    public Core.Secrets.SecretStore Secrets { get; init; } = LuksImages.Secrets();

    public override string ToString() => Name;
}
