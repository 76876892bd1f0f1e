using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>Writes headers of LUKS2: new ones, and changed ones.</summary>
internal static class Luks2Writer
{
    /// <summary>Where the data begins in new images: room for some sixty key slots, as cryptsetup leaves.</summary>
    public const long PayloadOffset = 16 << 20;

    private const long AreaAlignment = 4096;

    // The volume key is protected as well by any cipher that is as strong; this is the one that everybody has.
    private static readonly CipherSpec AreaCipher = CipherSpec.Parse("aes-xts-plain64");

    /// <summary>A slot that is to be made.</summary>
    public static LuksKeySlot NewSlot(int id, int keySize, string hash, long areaOffset, LuksKdfWish kdf) => new()
    {
        Id = id,
        IsActive = true,
        KeySize = keySize,
        Stripes = LuksLayout.Stripes,
        SplitHash = hash,
        Kdf = kdf.Choose(LuksLayout.MaxKeySize),
        AreaOffset = areaOffset,
        AreaSize = AreaSizeOf(keySize),
        AreaCipher = AreaCipher,
        AreaKeySize = LuksLayout.MaxKeySize,
    };

    /// <summary>Bytes of the area of a slot.</summary>
    public static long AreaSizeOf(int keySize) =>
        (keySize * (long)LuksLayout.Stripes + AreaAlignment - 1) & -AreaAlignment;

    /// <summary>The JSON of a new image.</summary>
    public static byte[] NewJson(LuksKeySlot slot, LuksDigest digest, CipherSpec cipher, int sectorSize) =>
        Encode(new JsonObject
        {
            ["keyslots"] = new JsonObject { [Text(slot.Id)] = SlotNode(slot) },
            ["tokens"] = new JsonObject(),
            ["segments"] = new JsonObject
            {
                ["0"] = new JsonObject
                {
                    ["type"] = "crypt",
                    ["offset"] = Text(PayloadOffset),
                    ["size"] = "dynamic",
                    ["iv_tweak"] = "0",
                    ["encryption"] = cipher.ToString(),
                    ["sector_size"] = sectorSize,
                },
            },
            ["digests"] = new JsonObject
            {
                ["0"] = new JsonObject
                {
                    ["type"] = "pbkdf2",
                    ["keyslots"] = new JsonArray(Text(slot.Id)),
                    ["segments"] = new JsonArray("0"),
                    ["hash"] = digest.Hash,
                    ["iterations"] = digest.Iterations,
                    ["salt"] = Convert.ToBase64String(digest.Salt),
                    ["digest"] = Convert.ToBase64String(digest.Value),
                },
            },
            ["config"] = new JsonObject
            {
                ["json_size"] = Text(LuksLayout.MinHeaderSizeV2 - LuksLayout.BinaryHeaderSize),
                ["keyslots_size"] = Text(PayloadOffset - 2 * LuksLayout.MinHeaderSizeV2),
            },
        });

    /// <summary>A slot as the JSON has it (section 3.2).</summary>
    public static JsonObject SlotNode(LuksKeySlot slot)
    {
        JsonObject kdf = slot.Kdf.Kind == LuksPbkdf.Pbkdf2
            ? new JsonObject
            {
                ["type"] = "pbkdf2",
                ["hash"] = slot.Kdf.Hash,
                ["iterations"] = slot.Kdf.Iterations,
            }
            : new JsonObject
            {
                ["type"] = slot.Kdf.Kind.ToString().ToLowerInvariant(),
                ["time"] = slot.Kdf.Iterations,
                ["memory"] = slot.Kdf.MemoryKiB,
                ["cpus"] = slot.Kdf.Lanes,
            };
        kdf["salt"] = Convert.ToBase64String(slot.Kdf.Salt);
        return new JsonObject
        {
            ["type"] = "luks2",
            ["key_size"] = slot.KeySize,
            ["af"] = new JsonObject
            {
                ["type"] = "luks1",
                ["stripes"] = slot.Stripes,
                ["hash"] = slot.SplitHash,
            },
            ["area"] = new JsonObject
            {
                ["type"] = "raw",
                ["offset"] = Text(slot.AreaOffset),
                ["size"] = Text(slot.AreaSize),
                ["encryption"] = slot.AreaCipher.ToString(),
                ["key_size"] = slot.AreaKeySize,
            },
            ["kdf"] = kdf,
        };
    }

    /// <summary>A tree as bytes.</summary>
    public static byte[] Encode(JsonObject root) => Encoding.UTF8.GetBytes(root.ToJsonString());

    /// <summary>One copy of a header, with its salt and checksum.</summary>
    /// <param name="start">Its fields; magic, offset and salt are filled in.</param>
    /// <param name="json">Its JSON.</param>
    /// <param name="isSecond">Which copy.</param>
    public static byte[] MakeCopy(Luks2Start start, ReadOnlySpan<byte> json, bool isSecond)
    {
        int size = (int)start.HeaderSize.Value;
        var copy = new byte[size];
        if (json.Length >= size - LuksLayout.BinaryHeaderSize)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the metadata does not fit in the header")
            {
                Found = $"{json.Length} bytes",
                Expected = $"less than {size - LuksLayout.BinaryHeaderSize}",
            };
        }

        (isSecond ? LuksLayout.SecondMagic : LuksLayout.Magic).CopyTo(start.Magic);
        start.HeaderOffset = isSecond ? (ulong)size : 0;
        RandomNumberGenerator.Fill(start.Salt);
        MemoryMarshal.Write(copy, in start);
        json.CopyTo(copy.AsSpan(LuksLayout.BinaryHeaderSize));
        Hash hash = Hash.Get(LuksHeader.Text(start.ChecksumAlgorithm));
        Luks2Header.Checksum(copy, hash).CopyTo(copy, LuksLayout.ChecksumField);
        return copy;
    }

    /// <summary>
    /// Replaces both copies of a header. The one that counts is overwritten last, when the other is durable, so that at
    /// no time both can be lost.
    /// </summary>
    public static async ValueTask ReplaceAsync(
        LuksArea area, Luks2Copies old, JsonObject root, CancellationToken cancellationToken)
    {
        byte[] json = Encode(root);
        Luks2Start start = MemoryMarshal.Read<Luks2Start>(old.Used);
        start.SequenceId = old.SequenceId + 1;
        byte[] first = MakeCopy(start, json, isSecond: false);
        byte[] second = MakeCopy(start, json, isSecond: true);
        (long At, byte[] Copy)[] order = old.UsedSecond
            ? [(0, first), (old.HeaderSize, second)]
            : [(old.HeaderSize, second), (0, first)];
        foreach ((long at, byte[] copy) in order)
        {
            await area.WriteAsync(at, copy, cancellationToken).ConfigureAwait(false);
            await area.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
}
