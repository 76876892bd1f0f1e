using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>Parses the header of LUKS1 (section 2.2).</summary>
internal static class Luks1Header
{
    private const int KeyBytesField = 108;
    private const int SlotSize = 48;

    /// <summary>Checks a header.</summary>
    /// <param name="head">Its bytes, or what the file has of them.</param>
    /// <param name="areaLength">Bytes of the area that holds the key material too.</param>
    public static LuksHeader Parse(ReadOnlySpan<byte> head, long areaLength)
    {
        var reader = new SpanReader(head);
        var slots = new Luks1Slot[LuksLayout.SlotsV1];
        bool whole = reader.TryRead(out Luks1Start start);
        for (int i = 0; whole && i < slots.Length; i++)
        {
            whole = reader.TryRead(out slots[i]);
        }

        if (!whole)
        {
            throw BlockException.Invalid(
                "the header is cut short", 0, $"{head.Length} bytes", $"{LuksLayout.HeaderSizeV1} bytes");
        }

        CipherSpec cipher = CipherSpec.Parse(
            $"{LuksHeader.Text(start.CipherName)}-{LuksHeader.Text(start.CipherMode)}".TrimEnd('-'), 8);
        string hash = Hash.Get(LuksHeader.Text(start.HashSpec), 72).Name;
        if (start.KeyBytes.Value is 0 or > LuksLayout.MaxKeySize
            || cipher.WhyNot((int)start.KeyBytes.Value) is not null)
        {
            throw BlockException.Invalid(
                $"the size of the volume key does not fit {cipher}", KeyBytesField, Number(start.KeyBytes));
        }

        var digest = new LuksDigest(
            hash, Iterations(start.DigestIterations, 164), ((ReadOnlySpan<byte>)start.DigestSalt).ToArray(),
            ((ReadOnlySpan<byte>)start.Digest).ToArray(), [.. Enumerable.Range(0, slots.Length)]);
        long payload = start.PayloadOffset.Value * (long)LuksLayout.Sector;
        return new LuksHeader
        {
            Version = 1,
            Uuid = LuksHeader.Text(start.Uuid),
            KeySize = (int)start.KeyBytes.Value,
            Slots = ReadSlots(slots, cipher, hash, (int)start.KeyBytes.Value, payload, areaLength),
            Digests = [digest],
            Segments = [new LuksSegment(payload, null, 0, cipher, LuksLayout.Sector, digest)],
        };
    }

    private static List<LuksKeySlot> ReadSlots(
        Luks1Slot[] slots, CipherSpec cipher, string hash, int keySize, long payload, long areaLength)
    {
        var list = new List<LuksKeySlot>();
        for (int i = 0; i < slots.Length; i++)
        {
            Luks1Slot slot = slots[i];
            int at = LuksLayout.SlotsField + i * SlotSize;
            bool isActive = slot.Active.Value == LuksLayout.SlotEnabled;
            if (!isActive && slot.Active.Value != LuksLayout.SlotDisabled)
            {
                throw BlockException.Invalid(
                    $"key slot {i} is neither in use nor free", at, $"0x{slot.Active.Value:x8}",
                    $"0x{LuksLayout.SlotEnabled:x8} or 0x{LuksLayout.SlotDisabled:x8}");
            }

            if (isActive && slot.Stripes.Value is 0 or > LuksLayout.Stripes)
            {
                throw BlockException.Invalid(
                    $"key slot {i} splits its key wrongly", at + 44, Number(slot.Stripes), $"1…{LuksLayout.Stripes}");
            }

            long offset = slot.MaterialOffset.Value * (long)LuksLayout.Sector;
            var parsed = new LuksKeySlot
            {
                Id = i,
                IsActive = isActive,
                KeySize = keySize,
                Stripes = isActive ? (int)slot.Stripes.Value : LuksLayout.Stripes,
                SplitHash = hash,
                Kdf = new LuksKdf(
                    LuksPbkdf.Pbkdf2, hash, isActive ? Iterations(slot.Iterations, at + 4) : 0, 0, 0,
                    ((ReadOnlySpan<byte>)slot.Salt).ToArray()),
                AreaOffset = offset,
                AreaSize = (keySize * LuksLayout.Stripes + LuksLayout.Sector - 1) & -LuksLayout.Sector,
                AreaCipher = cipher,
                AreaKeySize = keySize,
            };
            if (isActive)
            {
                CheckPlace(list, parsed, payload, areaLength, at + 40);
            }

            list.Add(parsed);
        }

        return list;
    }

    private static void CheckPlace(List<LuksKeySlot> others, LuksKeySlot slot, long payload, long areaLength, int field)
    {
        long end = slot.AreaOffset + slot.MaterialSize;
        long limit = payload == 0 ? areaLength : Math.Min(payload, areaLength);
        if (slot.AreaOffset < 2 * LuksLayout.Sector || end > limit)
        {
            throw BlockException.Invalid(
                $"the key material of slot {slot.Id} does not lie between header and payload", field,
                $"0x{slot.AreaOffset:x}+0x{slot.MaterialSize:x}", $"0x400…0x{limit:x}");
        }

        foreach (LuksKeySlot other in others)
        {
            if (other.IsActive && slot.AreaOffset < other.AreaOffset + other.MaterialSize && other.AreaOffset < end)
            {
                throw BlockException.Invalid($"the key material of slots {other.Id} and {slot.Id} overlaps", field);
            }
        }
    }

    private static int Iterations(Be32 value, int field) =>
        value.Value is > 0 and <= (uint)KdfBudget.MaxRounds
            ? (int)value.Value
            : throw BlockException.Limit(
                "the number of iterations is out of range", value.Value, KdfBudget.MaxRounds, field);

    private static string Number(Be32 value) => value.Value.ToString(CultureInfo.InvariantCulture);
}
