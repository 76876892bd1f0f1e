namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// Why a damaged image opens in one program only. One that is in no line here fails the comparison: either we refuse
/// what is sound, or we serve what is not, or there is another reason to write down.
/// </summary>
internal static class KnownDifferences
{
    private const string OnlyQemu = "only qemu: ";
    private const string OnlyWe = "only we: ";

    /// <summary>Formats, separated by bars; who opens it; parts of the refusal, any of them; and the reason.</summary>
    private static readonly (string Formats, string Side, string[] Texts, string Reason)[] s_all =
    [
        (
            "qcow2|encrypted qcow2|qcow|encrypted qcow|qed|vdi|vpc|parallels|vhdx|vmdk|bochs|cloop|dmg", OnlyQemu,
            ["outside the file", "not in the file", "the file is smaller than its disk", "not an offset in the file"],
            "qemu reads zeroes where a file has ended, or never looks at the place; we invent no bytes"),
        (
            "qcow2|encrypted qcow2|qcow|encrypted qcow|qed|parallels", OnlyQemu,
            ["L1 entry is invalid", "L2 entry is invalid"],
            "reserved bits or an impossible place in a table; qemu masks what it does not use"),
        (
            "qcow2", OnlyQemu, ["size of a snapshot is out of range"],
            "qemu looks at a snapshot's tables only when it is used; we list them all"),
        (
            "qcow2", OnlyWe, ["bitmap 'bitmap-", "Bitmap 'bitmap-"],
            "a dirty bitmap is damaged, which the disk's content does not depend on"),
        (
            "qcow2", OnlyWe, ["data-file-raw requires a data file"],
            "an auto-clear bit without its data file says nothing, and is cleared by the first write"),
        (
            "qcow2|qcow|qed", OnlyQemu, ["a file with an impossible name"],
            "a name with a zero byte in it; qemu takes what is before it"),
        (
            "encrypted qcow2|luks", OnlyWe, ["is overlapping with", "is corrupted (stripes"],
            "a key slot is damaged that is not needed: another one opens"),
        (
            "luks", OnlyWe, ["LUKS version 2 is not supported", "not in LUKS format"],
            "qemu knows no LUKS2, nor its second header"),
        (
            "luks2 with good checksums", OnlyQemu, [""],
            "the first copy of the header has a good checksum and makes no sense; cryptsetup takes the second, we refuse"),
        (
            "luks2 with good checksums", OnlyWe, ["its own tool refuses it"],
            "something in the metadata is damaged that opening does not need; cryptsetup looks at all of it"),
        ("luks|encrypted qcow|encrypted qcow2", OnlyQemu, ["not a multiple of"], "qemu rounds the size down"),
        ("vdi", OnlyWe, ["non-NULL parent UUID"], "an id in the header of a disk that says that it has no parent"),
        (
            "vdi", OnlyQemu,
            [
                "the image's type is not known", "begin inside the block table", "extra bytes before each block",
                "knows it only as",
            ],
            "qemu does not read these fields, and so does not see that it misunderstands the disk"),
        (
            "vpc", OnlyWe, ["Incorrect header checksum", "invalid VPC image"],
            "one checksum is wrong, and the other copy or what it protects is sound: we warn"),
        (
            "parallels", OnlyQemu, ["cluster table is too large"],
            "a limit of ours, far above what the largest disks need"),
        (
            "vpc|parallels", OnlyQemu, ["allocation table does not cover the disk", "is impossible"],
            "numbers that contradict each other; qemu takes what it reads first"),
        (
            "parallels", OnlyWe, ["Format Extension", "Bitmap ", "bitmap"],
            "the extension holds dirty bitmaps, not the disk: we say that it is damaged"),
        (
            "bochs", OnlyQemu, ["size of a bitmap is impossible", "header's size is impossible"],
            "sizes that bximage never makes; qemu takes any"),
        (
            "vmdk", OnlyQemu,
            [
                "does not name its file", "has no CID", "names no extents", "type of an extent is not known",
                "size of an extent is impossible", "a line of the descriptor is not understood",
                "a content id is impossible", "descriptors of version", "offset of an extent",
            ],
            "qemu skips lines that it does not understand, and their extents are missing from the disk"),
        (
            "vmdk", OnlyQemu, ["not a sparse extent"],
            "a damaged first line: qemu's probing is looser about what a descriptor is"),
        (
            "vmdk", OnlyQemu,
            [
                "contradict each other", "marker names another grain", "text mode",
                "has another size than the descriptor", "does not fit the capacity", "lies over the extent's metadata",
            ],
            "two places of the file say different things; qemu reads only one of them"),
        (
            "vmdk", OnlyQemu,
            [
                "grain directory is impossible", "grain table entry is impossible", "descriptor is impossible",
                "size of the grains is impossible", "grain size is impossible", "features that are not known",
                "descriptor is too large", "compression of the grains", "COWD extents of version",
            ],
            "a version, flag or number that this program does not know or that nobody writes; qemu does not look"),
        (
            "vmdk", OnlyWe, ["invalid VMDK image descriptor", "Unsupported image type", "Invalid footer"],
            "words and markers that the extents do not depend on: the extent lines say what is what"),
        (
            "vmdk", OnlyWe, ["File truncated"],
            "the header's \"overhead\" is wrong, a hint for allocation that reading does not need"),
        (
            "vmdk", OnlyWe, ["Invalid argument", "Could not open"],
            "a parent that the descriptor names, but says by its CID or key not to have"),
        (
            "vhdx", OnlyWe, ["Invalid argument", "Operation not supported", "a log that needs to be replayed"],
            "qemu has no parents and no replay for a read-only image; one of two headers is enough"),
        (
            "vhdx", OnlyQemu, ["log has to be replayed", "log has an impossible place", "sector size is not allowed"],
            "what the specification rules out, and qemu does not verify"),
        (
            "cloop", OnlyQemu, ["not a cloop image", "cloop version"],
            "the script at the start is damaged, which qemu skips"),
        (
            "dmg", OnlyQemu,
            [
                "resource fork is damaged", "property list is damaged", "place in the image is impossible",
                "is damaged: the length of raw run",
            ],
            "qemu searches for tables, and takes what looks like one"),
        (
            "dmg", OnlyWe, ["module block-block-dmg-", "error while reading"],
            "qemu has no decoder for LZMA; those for bzip2 and LZFSE are a package of their own, not installed"),
        (
            "gzip", OnlyQemu, ["BGZF block"],
            "a BGZF size that lies: gzip does not read it, and we would seek by it"),
        (
            "zstd", OnlyQemu, ["zstd unit is damaged (Src size"],
            "a seek table that lies: zstd does not read it, and we seek by it"),
        (
            "bzip2", OnlyQemu, ["no bzip2 stream"],
            "bzip2 ignores what follows a stream; half a disk would be missing without a word"),
        (
            "tar", OnlyQemu, ["not a number"], "tar gives what it found before the damage"),
        (
            "tar", OnlyWe, ["its own tool refuses it"],
            "the name or the size of another member is damaged, and tar was asked for one name"),
    ];

    /// <summary>The reason for an outcome, or null when nobody knows one.</summary>
    public static string? Reason(string format, string outcome) => s_all
        .Where(known => known.Formats.Split('|').Contains(format)
            && outcome.StartsWith(known.Side, StringComparison.Ordinal)
            && known.Texts.Any(text => outcome.Contains(text, StringComparison.Ordinal)))
        .Select(known => known.Reason).FirstOrDefault();
}
