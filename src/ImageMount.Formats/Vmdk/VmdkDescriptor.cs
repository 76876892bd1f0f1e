using System.Globalization;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Vmdk;

/// <summary>Whether an extent's bytes may be used ("The Extent Description").</summary>
internal enum VmdkAccess
{
    /// <summary>RW.</summary>
    ReadWrite,

    /// <summary>RDONLY.</summary>
    ReadOnly,

    /// <summary>NOACCESS.</summary>
    None,
}

/// <summary>What an extent is made of ("The Extent Description").</summary>
internal enum VmdkExtentType
{
    /// <summary>A file, or part of one, as it is. VMFS is the same on ESX.</summary>
    Flat,

    /// <summary>A hosted sparse extent.</summary>
    Sparse,

    /// <summary>A COWD extent, of ESX.</summary>
    VmfsSparse,

    /// <summary>A space-efficient sparse extent, of ESXi 6.5 and later.</summary>
    SeSparse,

    /// <summary>Zeroes; no file.</summary>
    Zero,

    /// <summary>Something that we know of and do not read.</summary>
    Unsupported,
}

/// <summary>One line of the extent description.</summary>
/// <param name="Access">How it may be used.</param>
/// <param name="Length">Guest bytes.</param>
/// <param name="Type">What it is made of.</param>
/// <param name="TypeName">The word in the descriptor ("SPARSE").</param>
/// <param name="FileName">File as written, null for zeroes.</param>
/// <param name="FileOffset">Where the data begins in a flat file, bytes.</param>
internal sealed record VmdkExtentLine(
    VmdkAccess Access, long Length, VmdkExtentType Type, string TypeName, string? FileName, long FileOffset);

/// <summary>
/// The text that describes a disk ("The Descriptor File"): in a file of its own, or embedded in a sparse extent. Keeps
/// where the CID stands, because that is the only thing that we ever change.
/// </summary>
internal sealed class VmdkDescriptor
{
    private readonly List<VmdkExtentLine> _extents = [];
    private readonly List<KeyValuePair<string, string>> _database = [];

    private VmdkDescriptor()
    {
    }

    /// <summary>Content id: changes when the disk is written for the first time after opening.</summary>
    public uint Cid { get; private set; }

    /// <summary>Where the CID's digits stand, bytes from the start of the text; -1 when there is no CID.</summary>
    public int CidOffset { get; private set; } = -1;

    /// <summary>How many digits there are (8, unless somebody wrote it by hand).</summary>
    public int CidDigits { get; private set; }

    /// <summary>CID that the parent had, or <see cref="VmdkLayout.NoParent"/>.</summary>
    public uint ParentCid { get; private set; } = VmdkLayout.NoParent;

    /// <summary>monolithicSparse, twoGbMaxExtentFlat…</summary>
    public string CreateType { get; private set; } = "";

    /// <summary>The parent as written, or null.</summary>
    public string? ParentFileName { get; private set; }

    /// <summary>File in which VMware notes which blocks changed, for backup programs; null when nobody does.</summary>
    public string? ChangeTrackPath { get; private set; }

    /// <summary>True when there is a parent.</summary>
    public bool HasParent => ParentCid != VmdkLayout.NoParent;

    /// <summary>Extents in guest order.</summary>
    public IReadOnlyList<VmdkExtentLine> Extents => _extents;

    /// <summary>The disk database, in order ("ddb.adapterType").</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Database => _database;

    /// <summary>How sure one can be that a text is a descriptor: 0, 60 or 100.</summary>
    public static int Probe(ReadOnlySpan<byte> head)
    {
        // Comments and empty lines, then "version=": what every descriptor has.
        bool titled = false;
        while (!head.IsEmpty)
        {
            int end = head.IndexOf((byte)'\n');
            if (end < 0)
            {
                return 0;
            }

            ReadOnlySpan<byte> line = head[..end].Trim(" \t\r"u8);
            head = head[(end + 1)..];
            if (line.IsEmpty)
            {
                continue;
            }

            if (line[0] != '#')
            {
                return !StartsWith(line, "version="u8) ? 0 : titled ? 100 : 60;
            }

            titled |= StartsWith(line[1..].Trim((byte)' '), "Disk DescriptorFile"u8);
        }

        return 0;
    }

    /// <summary>Parses a descriptor; padding with zero bytes at the end is fine.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place in the text.</exception>
    public static VmdkDescriptor Parse(ReadOnlySpan<byte> text)
    {
        int padding = text.IndexOf((byte)0);
        if (padding >= 0)
        {
            text = text[..padding];
        }

        var descriptor = new VmdkDescriptor();
        Encoding encoding = FindEncoding(text);
        int at = 0;
        while (at < text.Length)
        {
            int length = text[at..].IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = length < 0 ? text[at..] : text.Slice(at, length);
            if (line.Length > VmdkLayout.MaxLineLength)
            {
                throw BlockException.Limit(
                    "a line of the descriptor is too long", line.Length, VmdkLayout.MaxLineLength, at);
            }

            descriptor.ParseLine(line, at, encoding);
            at += line.Length + 1;
        }

        if (descriptor.CidOffset < 0)
        {
            throw BlockException.Invalid("the descriptor has no CID");
        }

        return descriptor;
    }

    private void ParseLine(ReadOnlySpan<byte> bytes, int at, Encoding encoding)
    {
        string line = encoding.GetString(bytes).Trim();
        if (line.Length == 0 || line[0] == '#')
        {
            return;
        }

        int equals = line.IndexOf('=', StringComparison.Ordinal);
        int quote = line.IndexOf('"', StringComparison.Ordinal);
        if (equals < 0 || (quote >= 0 && quote < equals))
        {
            ParseExtent(line, at);
            return;
        }

        string key = line[..equals].Trim();
        string value = Unquote(line[(equals + 1)..].Trim());
        switch (key.ToUpperInvariant())
        {
            case "VERSION":
                if (!uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out uint version)
                    || version is < 1 or > 4)
                {
                    throw BlockException.Unsupported($"descriptors of version '{Short(value)}' are not supported");
                }

                break;
            case "CID":
                Cid = ParseCid(value, at);
                CidOffset = at + bytes.LastIndexOf(Encoding.ASCII.GetBytes(value));
                CidDigits = value.Length;
                break;
            case "PARENTCID":
                ParentCid = ParseCid(value, at);
                break;
            case "CREATETYPE":
                CreateType = value;
                break;
            case "PARENTFILENAMEHINT":
                ParentFileName = value;
                break;
            case "CHANGETRACKPATH":
                ChangeTrackPath = value.Length == 0 ? null : value;
                break;
            default:
                if (key.StartsWith("ddb.", StringComparison.OrdinalIgnoreCase)
                    && _database.Count < VmdkLayout.MaxDatabaseEntries)
                {
                    _database.Add(new(key, value));
                }

                break;
        }
    }

    /// <summary>access, sectors, type, "file", offset; what may follow (device ids of whole-disk images) is not ours.</summary>
    private void ParseExtent(string line, int at)
    {
        string rest = line;
        string access = NextWord(ref rest);
        VmdkAccess how = access.ToUpperInvariant() switch
        {
            "RW" => VmdkAccess.ReadWrite,
            "RDONLY" => VmdkAccess.ReadOnly,
            "NOACCESS" => VmdkAccess.None,
            _ => throw BlockException.Invalid(
                "a line of the descriptor is not understood", at, $"'{Short(line)}'",
                "a comment, key=value, or an extent (RW, RDONLY, NOACCESS)"),
        };
        string size = NextWord(ref rest);
        if (!long.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out long sectors)
            || sectors < 1 || sectors > long.MaxValue / VmdkLayout.SectorSize)
        {
            throw BlockException.Invalid("the size of an extent is impossible", at, $"'{Short(size)}'", "sectors");
        }

        string typeName = NextWord(ref rest);
        VmdkExtentType type = typeName.ToUpperInvariant() switch
        {
            "FLAT" or "VMFS" => VmdkExtentType.Flat,
            "SPARSE" => VmdkExtentType.Sparse,
            "VMFSSPARSE" => VmdkExtentType.VmfsSparse,
            "SESPARSE" => VmdkExtentType.SeSparse,
            "ZERO" => VmdkExtentType.Zero,
            "VMFSRDM" or "VMFSRAW" => VmdkExtentType.Unsupported,
            _ => throw BlockException.Invalid(
                "the type of an extent is not known", at, $"'{Short(typeName)}'", "FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE or SESPARSE"),
        };
        string? file = null;
        long offset = 0;
        if (type != VmdkExtentType.Zero)
        {
            file = NextQuoted(ref rest, at);
            string place = NextWord(ref rest);
            if (type == VmdkExtentType.Flat && place.Length > 0
                && (!long.TryParse(place, NumberStyles.None, CultureInfo.InvariantCulture, out offset)
                    || offset > long.MaxValue / VmdkLayout.SectorSize))
            {
                throw BlockException.Invalid(
                    "the offset of an extent is impossible", at, $"'{Short(place)}'", "sectors");
            }
        }

        if (_extents.Count == VmdkLayout.MaxExtents)
        {
            throw BlockException.Limit("the disk has too many extents", _extents.Count + 1, VmdkLayout.MaxExtents, at);
        }

        _extents.Add(new VmdkExtentLine(
            how, sectors * VmdkLayout.SectorSize, type, typeName, file, offset * VmdkLayout.SectorSize));
    }

    private static uint ParseCid(string value, int at) =>
        value.Length is > 0 and <= 8
            && uint.TryParse(value, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint cid)
            ? cid
            : throw BlockException.Invalid("a content id is impossible", at, $"'{Short(value)}'", "8 hex digits");

    /// <summary>The file names are in the encoding that the header names; the keys are ASCII in all of them.</summary>
    private static Encoding FindEncoding(ReadOnlySpan<byte> text)
    {
        string? name = null;
        foreach (Range range in text.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = text[range].Trim(" \t\r"u8);
            if (line.Length <= 128 && StartsWith(line, "encoding"u8))
            {
                string value = Encoding.ASCII.GetString(line["encoding".Length..]).TrimStart();
                name = value.StartsWith('=') ? Unquote(value[1..].Trim()) : name;
            }
        }

        if (name is null || name.Equals("UTF-8", StringComparison.OrdinalIgnoreCase) || text.IndexOfAnyExceptInRange<byte>(0, 127) < 0)
        {
            return Encoding.UTF8;
        }

        try
        {
            return CodePagesEncodingProvider.Instance.GetEncoding(name) ?? Encoding.GetEncoding(name);
        }
        catch (ArgumentException)
        {
            throw BlockException.Unsupported($"the descriptor's encoding '{Short(name)}' is not known");
        }
    }

    private static string NextWord(ref string rest)
    {
        rest = rest.TrimStart();
        int end = rest.AsSpan().IndexOfAny(' ', '\t');
        string word = end < 0 ? rest : rest[..end];
        rest = rest[word.Length..];
        return word;
    }

    private static string NextQuoted(ref string rest, int at)
    {
        rest = rest.TrimStart();
        int end = rest.Length < 2 || rest[0] != '"' ? -1 : rest.IndexOf('"', 1);
        if (end <= 1)
        {
            throw BlockException.Invalid(
                "an extent does not name its file", at, $"'{Short(rest)}'", "a name in double quotes");
        }

        string name = rest[1..end];
        rest = rest[(end + 1)..];
        return name;
    }

    private static string Unquote(string value) =>
        value.Length >= 2 && value[0] == '"' && value[^1] == '"' ? value[1..^1] : value;

    private static string Short(string text) => text.Length <= 80 ? text : text[..77] + "…";

    private static bool StartsWith(ReadOnlySpan<byte> line, ReadOnlySpan<byte> word) =>
        line.Length >= word.Length && Ascii.EqualsIgnoreCase(line[..word.Length], word);
}
