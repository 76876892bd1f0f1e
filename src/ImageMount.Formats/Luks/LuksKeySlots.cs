using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>
/// Adds and removes passphrases. Adding: the key material is durable before the header names it. Removing: the material
/// is destroyed before the header forgets it, so that a passphrase which no header shows any more opens nothing. No
/// other slot is touched, so a crash at any point leaves every other passphrase as it was.
/// </summary>
/// <param name="area">Header and key material.</param>
/// <param name="volumeKey">The key; stays the caller's.</param>
internal sealed class LuksKeySlots(LuksArea area, Secret volumeKey)
{
    private const int SlotSize = 48;

    /// <summary>Does what options say.</summary>
    public async ValueTask AmendAsync(
        LuksAmendOptions options, SecretStore secrets, bool force, CancellationToken cancellationToken)
    {
        if (!area.CanWrite)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, "the header is open for reading only");
        }

        LuksHeader header = await LuksHeader.ReadAsync(area, cancellationToken).ConfigureAwait(false);
        if (options.State == LuksSlotState.Active)
        {
            await AddAsync(header, options, secrets, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await RemoveAsync(header, options, secrets, force, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask AddAsync(
        LuksHeader header, LuksAmendOptions o, SecretStore secrets, CancellationToken cancellationToken)
    {
        Secret passphrase = secrets.Get(o.NewSecret ?? throw Wrong("state=active needs new-secret"));
        if (o.OldSecret is not null && (await SlotsOfAsync(header, secrets.Get(o.OldSecret), null, cancellationToken)
            .ConfigureAwait(false)).Count == 0)
        {
            throw new BlockException(BlockErrorKind.PermissionDenied, "old-secret opens none of the key slots");
        }

        int most = header.Version == 1 ? LuksLayout.SlotsV1 : LuksLayout.SlotsV2;
        int[] used = UsedSlots(header);
        int id = o.KeySlot ?? Enumerable.Range(0, most).FirstOrDefault(i => !used.Contains(i), -1);
        if (id < 0)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "all key slots are in use");
        }

        if (id >= most || used.Contains(id))
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, id >= most ? $"there is no key slot {id}" : $"key slot {id} is in use")
            {
                Hint = id >= most ? $"This version has {most}." : "Add to a free one, then remove this one.",
            };
        }

        if (header.Version == 1)
        {
            await AddV1Async(header, id, o, passphrase, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await AddV2Async(header, id, o, passphrase, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask RemoveAsync(
        LuksHeader header, LuksAmendOptions o, SecretStore secrets, bool force, CancellationToken cancellationToken)
    {
        if (o.NewSecret is not null || (o.OldSecret is null && o.KeySlot is null))
        {
            throw Wrong("state=inactive needs old-secret or keyslot, and no new-secret");
        }

        List<LuksKeySlot> slots = o.OldSecret is not null
            ? await SlotsOfAsync(header, secrets.Get(o.OldSecret), o.KeySlot, cancellationToken).ConfigureAwait(false)
            : [.. header.Slots.Where(slot => slot.IsActive && slot.Id == o.KeySlot)];
        if (slots.Count == 0)
        {
            throw o.OldSecret is null
                ? new BlockException(BlockErrorKind.NotFound, $"key slot {o.KeySlot} is not in use")
                : new BlockException(BlockErrorKind.PermissionDenied, o.KeySlot is null
                    ? "old-secret opens none of the key slots" : $"old-secret does not open key slot {o.KeySlot}");
        }

        if (slots.Count == header.Slots.Count(slot => slot.IsActive) && !force)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "that would remove the last passphrase, and with it everything stored")
            {
                Hint = "Add another one first; or say --force to make the image unreadable for good.",
            };
        }

        foreach (LuksKeySlot slot in slots)
        {
            await WipeAsync(slot, cancellationToken).ConfigureAwait(false);
        }

        if (header.Version == 1)
        {
            await ForgetV1Async(slots, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            JsonObject root = Tree(header);
            slots.ForEach(slot => Forget(root, slot.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)));
            await Luks2Writer.ReplaceAsync(area, header.Copies!, root, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Slots that a passphrase opens.</summary>
    private async ValueTask<List<LuksKeySlot>> SlotsOfAsync(
        LuksHeader header, Secret passphrase, int? only, CancellationToken cancellationToken)
    {
        var found = new List<LuksKeySlot>();
        foreach (LuksKeySlot slot in header.Slots.Where(s => s.IsActive && (only is null || s.Id == only)))
        {
            foreach (LuksDigest digest in header.Digests.Where(digest => digest.Slots.Contains(slot.Id)))
            {
                if (await LuksUnlock.FindAsync(
                    area, header, digest, passphrase, slot.Id, new KdfBudget(), cancellationToken)
                    .ConfigureAwait(false) is { } opened)
                {
                    opened.Key.Dispose();
                    found.Add(slot);
                    break;
                }
            }
        }

        return found;
    }

    private async ValueTask WipeAsync(LuksKeySlot slot, CancellationToken cancellationToken)
    {
        using BufferLease noise = BufferPool.Shared.Rent(slot.MaterialSize);
        RandomNumberGenerator.Fill(noise.Span);
        await area.WriteAsync(slot.AreaOffset, noise.Memory, cancellationToken).ConfigureAwait(false);
        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask AddV1Async(
        LuksHeader header, int id, LuksAmendOptions o, Secret passphrase, CancellationToken cancellationToken)
    {
        if (o.Pbkdf is not (null or LuksPbkdf.Pbkdf2) || o.PbkdfMemoryKiB is not null)
        {
            throw Wrong("LUKS1 has only pbkdf2");
        }

        LuksKeySlot free = header.Slots[id];
        CheckRoom(header, free);
        LuksKeySlot slot = free with
        {
            IsActive = true,
            Stripes = LuksLayout.Stripes,
            Kdf = new LuksKdfWish(LuksPbkdf.Pbkdf2, free.SplitHash, o.IterTimeMs, o.Iterations, null)
                .Choose(free.AreaKeySize),
        };
        byte[] material = LuksSlotMaker.MakeMaterial(slot, volumeKey.Span, passphrase);
        await area.WriteAsync(slot.AreaOffset, material, cancellationToken).ConfigureAwait(false);

        // An entry may lie across two sectors, so the word that makes it count is written for itself, at the end.
        var entry = new byte[SlotSize];
        var fields = new Luks1Slot
        {
            Active = LuksLayout.SlotDisabled,
            Iterations = (uint)slot.Kdf.Iterations,
            MaterialOffset = (uint)(slot.AreaOffset / LuksLayout.Sector),
            Stripes = LuksLayout.Stripes,
        };
        slot.Kdf.Salt.CopyTo(fields.Salt);
        MemoryMarshal.Write(entry, in fields);
        long at = LuksLayout.SlotsField + (long)id * SlotSize;
        await area.WriteAsync(at, entry, cancellationToken).ConfigureAwait(false);
        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
        BinaryPrimitives.WriteUInt32BigEndian(entry, LuksLayout.SlotEnabled);
        await area.WriteAsync(at, entry.AsMemory(0, 4), cancellationToken).ConfigureAwait(false);
        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>The entry of a free slot was not looked at when the header was read.</summary>
    private void CheckRoom(LuksHeader header, LuksKeySlot free)
    {
        long payload = header.Segments[0].Offset;
        long end = free.AreaOffset + free.MaterialSize;
        bool fits = free.AreaOffset >= 2 * LuksLayout.Sector
            && end <= (payload == 0 ? area.Length : Math.Min(payload, area.Length))
            && !header.Slots.Any(other => other.IsActive
                && free.AreaOffset < other.AreaOffset + other.MaterialSize && other.AreaOffset < end);
        if (!fits)
        {
            throw BlockException.Invalid(
                $"the free key slot {free.Id} has no room", LuksLayout.SlotsField + free.Id * SlotSize + 40,
                $"0x{free.AreaOffset:x}+0x{free.MaterialSize:x}");
        }
    }

    private async ValueTask ForgetV1Async(List<LuksKeySlot> slots, CancellationToken cancellationToken)
    {
        foreach (LuksKeySlot slot in slots)
        {
            var entry = new byte[SlotSize - 8]; // Place and stripes stay, for the next use.
            BinaryPrimitives.WriteUInt32BigEndian(entry, LuksLayout.SlotDisabled);
            await area.WriteAsync(LuksLayout.SlotsField + (long)slot.Id * SlotSize, entry, cancellationToken)
                .ConfigureAwait(false);
        }

        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask AddV2Async(
        LuksHeader header, int id, LuksAmendOptions o, Secret passphrase, CancellationToken cancellationToken)
    {
        JsonObject root = Tree(header);
        LuksDigest digest = header.Segments[0].Digest;
        LuksKdf? like = header.Slots.FirstOrDefault(slot => digest.Slots.Contains(slot.Id))?.Kdf;
        LuksPbkdf kind = o.Pbkdf ?? like?.Kind ?? LuksPbkdf.Argon2id;
        string hash = like?.Hash ?? digest.Hash;
        LuksKeySlot slot = Luks2Writer.NewSlot(
            id, volumeKey.Length, hash, FindRoom(root, header, Luks2Writer.AreaSizeOf(volumeKey.Length)),
            new LuksKdfWish(kind, hash, o.IterTimeMs, o.Iterations, o.PbkdfMemoryKiB));
        byte[] material = LuksSlotMaker.MakeMaterial(slot, volumeKey.Span, passphrase);
        await area.WriteAsync(slot.AreaOffset, material, cancellationToken).ConfigureAwait(false);
        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
        string name = id.ToString(System.Globalization.CultureInfo.InvariantCulture);
        root["keyslots"]![name] = Luks2Writer.SlotNode(slot);
        DigestNode(root, header, digest)["keyslots"]!.AsArray().Add(name);
        await Luks2Writer.ReplaceAsync(area, header.Copies!, root, cancellationToken).ConfigureAwait(false);
    }

    private long FindRoom(JsonObject root, LuksHeader header, long size)
    {
        var taken = new List<(long Start, long End)>();
        foreach ((_, JsonNode? slot) in root["keyslots"]!.AsObject())
        {
            if (slot?["area"] is { } place)
            {
                long start = Number(place["offset"]);
                taken.Add((start, start + Number(place["size"])));
            }
        }

        long at = 2L * header.Copies!.HeaderSize;
        long end = Math.Min(at + Number(root["config"]!["keyslots_size"]), area.Length);
        foreach ((long start, long stop) in taken.Order())
        {
            if (start - at >= size)
            {
                break;
            }

            at = Math.Max(at, stop);
        }

        return at + size <= end
            ? at
            : throw new BlockException(BlockErrorKind.NoSpace, "there is no room for another key slot");
    }

    private static JsonObject DigestNode(JsonObject root, LuksHeader header, LuksDigest digest)
    {
        string salt = Convert.ToBase64String(digest.Salt);
        return root["digests"]!.AsObject().Select(pair => pair.Value!.AsObject())
            .First(node => node["salt"]!.GetValue<string>() == salt || header.Digests.Count == 1);
    }

    /// <summary>Removes every mention of a slot.</summary>
    private static void Forget(JsonObject root, string name)
    {
        root["keyslots"]!.AsObject().Remove(name);
        foreach (string group in (string[])["digests", "tokens"])
        {
            foreach ((_, JsonNode? node) in root[group]?.AsObject() ?? [])
            {
                if (node?["keyslots"] is JsonArray list)
                {
                    for (int i = list.Count - 1; i >= 0; i--)
                    {
                        if (list[i]?.GetValue<string>() == name)
                        {
                            list.RemoveAt(i);
                        }
                    }
                }
            }
        }
    }

    /// <summary>Every slot that is not free, of kinds that are not for passphrases too.</summary>
    private static int[] UsedSlots(LuksHeader header) => header.Version == 1
        ? [.. header.Slots.Where(slot => slot.IsActive).Select(slot => slot.Id)]
        : [.. Tree(header)["keyslots"]!.AsObject().Select(
            pair => int.Parse(pair.Key, System.Globalization.CultureInfo.InvariantCulture))];

    /// <summary>The metadata as a tree that can be changed; it was checked when it was read.</summary>
    private static JsonObject Tree(LuksHeader header)
    {
        try
        {
            return JsonNode.Parse(Luks2Header.JsonOf(header.Copies!.Used))!.AsObject();
        }
        catch (Exception e) when (e is System.Text.Json.JsonException or ArgumentException or InvalidOperationException)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"the metadata cannot be changed: {e.Message}", e);
        }
    }

    private static long Number(JsonNode? node)
    {
        if (node is JsonValue value && value.TryGetValue(out string? text)
            && long.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out long number)
            && number is >= 0 and < long.MaxValue / 2)
        {
            return number;
        }

        throw BlockException.Invalid("a number in the metadata is wrong");
    }

    private static BlockException Wrong(string rule) => new(BlockErrorKind.InvalidArgument, rule);
}
