using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>What `info` shows of a header, with the names and the order of qemu-img's JSON; LUKS2 adds its own.</summary>
internal static class LuksDescribe
{
    /// <summary>The facts; no key is needed for them.</summary>
    /// <param name="header">The header.</param>
    /// <param name="format">"luks" inside a qcow2 image, which says so in their midst; else null.</param>
    public static List<KeyValuePair<string, object>> Facts(LuksHeader header, string? format = null)
    {
        var facts = new List<KeyValuePair<string, object>>();
        void Say(string key, object? value)
        {
            if (value is not null)
            {
                facts.Add(new KeyValuePair<string, object>(key, value));
            }
        }

        LuksSegment segment = header.Segments[0];
        CipherSpec cipher = segment.Cipher;
        Say("ivgen-alg", cipher.IvName);
        Say("ivgen-hash-alg", cipher.IvHash);
        Say("hash-alg", header.Digests[0].Hash);
        Say("cipher-alg", LuksCipherNames.Of(cipher, header.KeySize));
        Say("uuid", header.Uuid);
        Say("format", format);
        Say("cipher-mode", cipher.ModeName);
        Say("slots", header.Slots.Select(slot => Slot(slot, header.Version)).ToList());
        Say("payload-offset", segment.Offset);
        Say("master-key-iters", (long)segment.Digest.Iterations);
        if (header.Version == 2)
        {
            Say("version", 2L);
            Say("label", header.Label.Length > 0 ? header.Label : null);
            Say("sector-size", (long)segment.SectorSize);
        }

        return facts;
    }

    private static object Slot(LuksKeySlot slot, int version)
    {
        var facts = new Dictionary<string, object>();
        if (version == 2)
        {
            facts["id"] = (long)slot.Id;
        }

        facts["active"] = slot.IsActive;
        if (slot.IsActive)
        {
            facts["iters"] = (long)slot.Kdf.Iterations;
        }

        facts["key-offset"] = slot.AreaOffset;
        if (slot.IsActive)
        {
            facts["stripes"] = (long)slot.Stripes;
        }

        if (version == 2)
        {
            facts["pbkdf"] = slot.Kdf.Kind.ToString().ToLowerInvariant();
            if (slot.Kdf.Kind != LuksPbkdf.Pbkdf2)
            {
                facts["memory"] = (long)slot.Kdf.MemoryKiB << 10;
                facts["lanes"] = (long)slot.Kdf.Lanes;
            }
        }

        return facts;
    }
}
