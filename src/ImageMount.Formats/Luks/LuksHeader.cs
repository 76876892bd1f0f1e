using System.Text;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>The function that makes a key of a passphrase.</summary>
public enum LuksPbkdf
{
    /// <summary>PBKDF2, the only one of LUKS1.</summary>
    Pbkdf2,

    /// <summary>Argon2i.</summary>
    Argon2i,

    /// <summary>Argon2id.</summary>
    Argon2id,
}

/// <summary>How a key slot makes a key of a passphrase.</summary>
/// <param name="Kind">Function.</param>
/// <param name="Hash">Hash of PBKDF2; null for Argon2.</param>
/// <param name="Iterations">Iterations of PBKDF2, passes of Argon2.</param>
/// <param name="MemoryKiB">Memory of Argon2.</param>
/// <param name="Lanes">Lanes of Argon2.</param>
/// <param name="Salt">Salt.</param>
public sealed record LuksKdf(LuksPbkdf Kind, string? Hash, int Iterations, int MemoryKiB, int Lanes, byte[] Salt);

/// <summary>A key slot: the volume key, encrypted with what a passphrase gives.</summary>
public sealed record LuksKeySlot
{
    /// <summary>Number: 0…7, in LUKS2 0…31.</summary>
    public required int Id { get; init; }

    /// <summary>True when it holds a key.</summary>
    public required bool IsActive { get; init; }

    /// <summary>Bytes of the volume key.</summary>
    public required int KeySize { get; init; }

    /// <summary>Pieces of the split key.</summary>
    public required int Stripes { get; init; }

    /// <summary>Hash of the splitter.</summary>
    public required string SplitHash { get; init; }

    /// <summary>How the passphrase becomes a key.</summary>
    public required LuksKdf Kdf { get; init; }

    /// <summary>Where the key material is, bytes.</summary>
    public required long AreaOffset { get; init; }

    /// <summary>Bytes that it may take.</summary>
    public required long AreaSize { get; init; }

    /// <summary>How it is encrypted.</summary>
    public required CipherSpec AreaCipher { get; init; }

    /// <summary>Bytes of the key for that.</summary>
    public required int AreaKeySize { get; init; }

    /// <summary>0: only when asked for by number; 1: ordinary; 2: first.</summary>
    public int Priority { get; init; } = 1;

    /// <summary>Bytes of the key material, whole sectors.</summary>
    public int MaterialSize => (KeySize * Stripes + LuksLayout.Sector - 1) & -LuksLayout.Sector;
}

/// <summary>What a volume key is recognised by.</summary>
/// <param name="Hash">Hash of PBKDF2.</param>
/// <param name="Iterations">Its iterations.</param>
/// <param name="Salt">Its salt.</param>
/// <param name="Value">Its result.</param>
/// <param name="Slots">Key slots that hold this key.</param>
public sealed record LuksDigest(string Hash, int Iterations, byte[] Salt, byte[] Value, IReadOnlyList<int> Slots);

/// <summary>A part of the disk that is encrypted in one way.</summary>
/// <param name="Offset">Where it begins in the data, bytes.</param>
/// <param name="Size">Bytes; null: up to the end.</param>
/// <param name="IvTweak">Added to sector numbers.</param>
/// <param name="Cipher">How.</param>
/// <param name="SectorSize">Bytes that are encrypted as one.</param>
/// <param name="Digest">Which key.</param>
public sealed record LuksSegment(
    long Offset, long? Size, ulong IvTweak, CipherSpec Cipher, int SectorSize, LuksDigest Digest);

/// <summary>The validated, immutable facts of a header of either version.</summary>
public sealed class LuksHeader
{
    /// <summary>1 or 2.</summary>
    public required int Version { get; init; }

    /// <summary>UUID as text.</summary>
    public required string Uuid { get; init; }

    /// <summary>Label of LUKS2, or empty.</summary>
    public string Label { get; init; } = "";

    /// <summary>Bytes of the volume key.</summary>
    public required int KeySize { get; init; }

    /// <summary>Key slots by number; LUKS1 lists unused ones too.</summary>
    public required IReadOnlyList<LuksKeySlot> Slots { get; init; }

    /// <summary>Digests of volume keys; LUKS1 has one.</summary>
    public required IReadOnlyList<LuksDigest> Digests { get; init; }

    /// <summary>Parts of the disk, in order.</summary>
    public required IReadOnlyList<LuksSegment> Segments { get; init; }

    /// <summary>LUKS2: which copies of the header are sound and how; null for LUKS1.</summary>
    public Luks2Copies? Copies { get; init; }

    /// <summary>Whether a file begins as LUKS does.</summary>
    public static bool HasMagic(ReadOnlySpan<byte> head) => head.StartsWith(LuksLayout.Magic);

    /// <summary>Reads and checks a header.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place.</exception>
    public static async ValueTask<LuksHeader> ReadAsync(LuksArea area, CancellationToken cancellationToken)
    {
        var head = new byte[(int)Math.Min(area.Length, LuksLayout.HeaderSizeV1)];
        await area.ReadAsync(0, head, "the header", cancellationToken).ConfigureAwait(false);
        if (HasMagic(head) && head.Length >= 8)
        {
            int version = (head[6] << 8) | head[7];
            return version switch
            {
                1 => Luks1Header.Parse(head, area.Length),
                2 => await Luks2Header.ReadAsync(area, cancellationToken).ConfigureAwait(false),
                _ => throw new BlockException(BlockErrorKind.NotSupported, "this version of LUKS is not known")
                {
                    Offset = 6,
                    Found = version.ToString(System.Globalization.CultureInfo.InvariantCulture),
                    Expected = "1 or 2",
                },
            };
        }

        // The first header of LUKS2 may be lost; then the second is somewhere behind it.
        return await Luks2Header.FindSecondAsync(area, cancellationToken).ConfigureAwait(false)
            ?? throw BlockException.Invalid("not a LUKS header", 0, null, "LUKS\\xba\\xbe");
    }

    /// <summary>A text that ends with a zero, or fills its field.</summary>
    internal static string Text(ReadOnlySpan<byte> field)
    {
        int end = field.IndexOf((byte)0);
        return Encoding.ASCII.GetString(end < 0 ? field : field[..end]);
    }
}
