using System.Globalization;
using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>What the JSON of a LUKS2 header says (section 3), checked: every reference leads somewhere, every number has
/// a limit, and what this program cannot do is refused by name.</summary>
internal sealed class Luks2Json
{
    private const long AreaAlignment = 4096;

    private readonly long _areaLength;
    private readonly int _headerSize;

    public Luks2Json(JsonElement root, int headerSize, long areaLength)
    {
        _headerSize = headerSize;
        _areaLength = areaLength;
        var top = new JsonPlace(root, "the metadata").AsObject();
        CheckRequirements(top.Get("config"));
        Slots = ReadSlots(top.Get("keyslots"));
        var digests = ReadDigests(top.Get("digests"));
        Digests = [.. digests.Select(digest => digest.Digest)];
        Segments = ReadSegments(top.Get("segments"), digests);
        KeySize = Slots.Count == 0 ? 0 : Slots[0].KeySize;
    }

    public IReadOnlyList<LuksKeySlot> Slots { get; }

    public IReadOnlyList<LuksDigest> Digests { get; }

    public IReadOnlyList<LuksSegment> Segments { get; }

    public int KeySize { get; }

    private static void CheckRequirements(JsonPlace config)
    {
        if (config.Find("requirements")?.Find("mandatory") is not { } mandatory)
        {
            return;
        }

        foreach (JsonPlace item in mandatory.Items(LuksLayout.MaxSegments))
        {
            string name = item.Text();
            throw name.Contains("reencrypt", StringComparison.Ordinal)
                ? Reencryption()
                : BlockException.Unsupported(
                    $"the image needs a feature that this program does not have: '{Printable.Of(name)}'");
        }
    }

    private static BlockException Reencryption() => BlockException.Unsupported(
        "the image is being reencrypted", "Finish that first: 'cryptsetup reencrypt --resume-only'.");

    private List<LuksKeySlot> ReadSlots(JsonPlace keyslots)
    {
        var slots = new List<LuksKeySlot>();
        foreach ((int id, JsonPlace slot) in keyslots.Numbered(LuksLayout.SlotsV2))
        {
            string type = slot.Get("type").Text();
            if (type == "reencrypt")
            {
                throw Reencryption();
            }

            if (type == "luks2")
            {
                slots.Add(ReadSlot(id, slot)); // Other kinds are not for passphrases.
            }
        }

        return [.. slots.OrderBy(slot => slot.Id)];
    }

    private LuksKeySlot ReadSlot(int id, JsonPlace slot)
    {
        JsonPlace split = slot.Get("af");
        split.Get("type").MustBe("luks1");
        JsonPlace area = slot.Get("area");
        area.Get("type").MustBe("raw");
        CipherSpec cipher = CipherSpec.Parse(area.Get("encryption").Text());
        int areaKeySize = area.Get("key_size").Number(1, LuksLayout.MaxKeySize);
        if (cipher.WhyNot(areaKeySize) is { } reason)
        {
            throw BlockException.Invalid($"{area.Name}: {reason}");
        }

        var parsed = new LuksKeySlot
        {
            Id = id,
            IsActive = true,
            KeySize = slot.Get("key_size").Number(1, LuksLayout.MaxKeySize),
            Stripes = split.Get("stripes").Number(1, LuksLayout.Stripes),
            SplitHash = Hash.Get(split.Get("hash").Text()).Name,
            Kdf = ReadKdf(slot.Get("kdf")),
            AreaOffset = area.Get("offset").LongNumber(),
            AreaSize = area.Get("size").LongNumber(),
            AreaCipher = cipher,
            AreaKeySize = areaKeySize,
            Priority = slot.Find("priority")?.Number(0, 2) ?? 1,
        };
        if (parsed.AreaSize < parsed.MaterialSize || parsed.AreaSize > LuksLayout.MaxKeySlotsArea
            || parsed.AreaOffset < 2L * _headerSize || parsed.AreaOffset % AreaAlignment != 0
            || parsed.AreaOffset > _areaLength - parsed.MaterialSize)
        {
            throw BlockException.Invalid(
                $"the key material of slot {id} does not lie in its area", null,
                $"0x{parsed.AreaOffset:x}+0x{parsed.AreaSize:x}", $"0x{2L * _headerSize:x}…0x{_areaLength:x}");
        }

        return parsed;
    }

    private static LuksKdf ReadKdf(JsonPlace kdf)
    {
        string type = kdf.Get("type").Text();
        byte[] salt = kdf.Get("salt").Binary(LuksLayout.MaxBinary);
        switch (type)
        {
            case "pbkdf2":
                return new LuksKdf(
                    LuksPbkdf.Pbkdf2, Hash.Get(kdf.Get("hash").Text()).Name,
                    kdf.Get("iterations").Number(1, (int)KdfBudget.MaxRounds), 0, 0, salt);
            case "argon2i" or "argon2id":
                int lanes = kdf.Get("cpus").Number(1, 64);
                return new LuksKdf(
                    type == "argon2i" ? LuksPbkdf.Argon2i : LuksPbkdf.Argon2id, null,
                    kdf.Get("time").Number(1, int.MaxValue),
                    kdf.Get("memory").Number(8 * lanes, KdfBudget.MaxMemoryKiB), lanes, salt);
            default:
                throw BlockException.Unsupported($"the key derivation '{Printable.Of(type)}' is not supported");
        }
    }

    private static List<(LuksDigest Digest, HashSet<int> Segments)> ReadDigests(JsonPlace digests)
    {
        var list = new List<(LuksDigest, HashSet<int>)>();
        foreach ((_, JsonPlace digest) in digests.Numbered(LuksLayout.MaxDigests))
        {
            digest.Get("type").MustBe("pbkdf2");
            byte[] value = digest.Get("digest").Binary(LuksLayout.MaxBinary);
            if (value.Length < 16)
            {
                throw BlockException.Invalid($"{digest.Name} is too short", null, $"{value.Length} bytes", "16 or more");
            }

            var parsed = new LuksDigest(
                Hash.Get(digest.Get("hash").Text()).Name,
                digest.Get("iterations").Number(1, (int)KdfBudget.MaxRounds),
                digest.Get("salt").Binary(LuksLayout.MaxBinary), value,
                [.. digest.Get("keyslots").Items(LuksLayout.SlotsV2).Select(item => item.Index(LuksLayout.SlotsV2))]);
            list.Add((
                parsed,
                [.. digest.Get("segments").Items(LuksLayout.MaxSegments)
                    .Select(item => item.Index(LuksLayout.MaxSegments))]));
        }

        return list;
    }

    private static List<LuksSegment> ReadSegments(
        JsonPlace segments, List<(LuksDigest Digest, HashSet<int> Segments)> digests)
    {
        var list = new List<LuksSegment>();
        List<(int Id, JsonPlace Place)> all = [.. segments.Numbered(LuksLayout.MaxSegments).OrderBy(s => s.Id)];
        foreach ((int id, JsonPlace segment) in all)
        {
            string type = segment.Get("type").Text();
            if (segment.Find("flags") is { } flags && flags.Items(16).Any(
                flag => flag.Text().StartsWith("backup-", StringComparison.Ordinal)))
            {
                throw Reencryption();
            }

            if (type != "crypt")
            {
                throw BlockException.Unsupported($"segment {id} is of type '{Printable.Of(type)}', not 'crypt'");
            }

            if (segment.Find("integrity") is { } integrity)
            {
                string kind = integrity.Find("type")?.Text() ?? "?";
                throw BlockException.Unsupported(
                    $"segment {id} has integrity tags ({Printable.Of(kind)}), which need the kernel's dm-integrity");
            }

            LuksDigest digest = digests.Find(candidate => candidate.Segments.Contains(id)).Digest
                ?? throw BlockException.Invalid($"segment {id} has no digest of its key");
            list.Add(ReadSegment(segment, isLast: id == all[^1].Id, digest));
        }

        return list.Count > 0 ? list : throw BlockException.Invalid("the image has no segments");
    }

    private static LuksSegment ReadSegment(JsonPlace segment, bool isLast, LuksDigest digest)
    {
        int sectorSize = segment.Get("sector_size").Number(512, 4096);
        if (!int.IsPow2(sectorSize))
        {
            throw BlockException.Invalid(
                $"the sectors of {segment.Name} have a wrong size", null,
                sectorSize.ToString(CultureInfo.InvariantCulture), "512, 1024, 2048 or 4096");
        }

        long offset = segment.Get("offset").LongNumber();
        JsonPlace size = segment.Get("size");
        long? length = size.Text() == "dynamic" ? null : size.LongNumber();
        if (offset % 512 != 0 || length % sectorSize is > 0 || (length is null && !isLast))
        {
            throw BlockException.Invalid(
                $"{segment.Name} does not consist of whole sectors", null, $"0x{offset:x}+{Printable.Of(size.Text())}");
        }

        return new LuksSegment(
            offset, length, segment.Get("iv_tweak").UnsignedNumber(), CipherSpec.Parse(segment.Get("encryption").Text()),
            sectorSize, digest);
    }
}
