using System.Globalization;
using System.Text;
using System.Xml;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Parallels;

/// <summary>A file of a bundle.</summary>
/// <param name="Id">The layer that it belongs to.</param>
/// <param name="IsPlain">A raw file, not an expanding image.</param>
/// <param name="File">Its name as seen from the descriptor.</param>
internal sealed record ParallelsFile(Guid Id, bool IsPlain, string File);

/// <summary>A part of the disk: a file for each layer.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">First byte after it.</param>
/// <param name="Files">The files.</param>
internal sealed record ParallelsStorage(long Start, long End, IReadOnlyList<ParallelsFile> Files);

/// <summary>
/// DiskDescriptor.xml, which makes files to a disk: parts of the disk one after another ("Storage"), layers one above
/// another ("Shot"), and which layer is the current one.
/// </summary>
internal sealed class ParallelsDescriptor
{
    /// <summary>Most bytes of a descriptor.</summary>
    public const int MaxSize = 1 << 20;

    /// <summary>Most layers of one chain.</summary>
    public const int MaxLayers = 32;

    private const int MaxFiles = GraphLimits.MaxNodes / 2;
    private const int MaxDepth = 16;

    /// <summary>Id of the current layer of a disk that does not name one.</summary>
    private static readonly Guid s_usualTop = new("5fbaabe3-6958-40ff-92a7-860e329aab41");

    private readonly List<ParallelsStorage> _storages = [];
    private readonly Dictionary<Guid, Guid> _parents = [];
    private readonly List<Guid> _shots = [];
    private readonly Dictionary<string, string> _values = new(StringComparer.Ordinal);
    private readonly List<ParallelsFile> _files = [];
    private int _fileCount;
    private Guid? _top;

    private ParallelsDescriptor()
    {
    }

    /// <summary>Parts in the order of the disk, without gaps; at least one.</summary>
    public IReadOnlyList<ParallelsStorage> Storages => _storages;

    /// <summary>Size of the disk, bytes.</summary>
    public long Length => _storages[^1].End;

    /// <summary>The current layer.</summary>
    public Guid Top { get; private set; }

    /// <summary>Layers other than the current one, in the order of the descriptor.</summary>
    public IEnumerable<Guid> Snapshots => _shots.Where(shot => shot != Top);

    /// <summary>True when these bytes begin a descriptor.</summary>
    public static bool Probe(ReadOnlySpan<byte> head) => head.IndexOf("<Parallels_disk_image"u8) >= 0
        && head.TrimStart("\ufeff \t\r\n"u8).StartsWith("<"u8);

    /// <summary>Parses a descriptor.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded.</exception>
    public static ParallelsDescriptor Parse(ReadOnlyMemory<byte> text)
    {
        var descriptor = new ParallelsDescriptor();
        var settings = new XmlReaderSettings
        {
            DtdProcessing = DtdProcessing.Prohibit,
            XmlResolver = null,
            MaxCharactersInDocument = MaxSize,
            MaxCharactersFromEntities = 1024,
            IgnoreComments = true,
            IgnoreProcessingInstructions = true,
        };
        try
        {
            using var reader = XmlReader.Create(new MemoryStream(text.ToArray(), writable: false), settings);
            descriptor.Read(reader);
        }
        catch (XmlException e)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"the descriptor is not XML: {e.Message}", e);
        }

        descriptor.Finish();
        return descriptor;
    }

    /// <summary>The layers of a chain from one down to the one without a parent.</summary>
    public IReadOnlyList<Guid> ChainOf(Guid layer)
    {
        var chain = new List<Guid>();
        for (Guid at = layer; at != Guid.Empty; at = _parents.GetValueOrDefault(at))
        {
            if (chain.Contains(at))
            {
                throw BlockException.Invalid($"the snapshot {at:B} is its own ancestor");
            }

            if (chain.Count == MaxLayers)
            {
                throw BlockException.Limit("the chain of snapshots is too long", chain.Count + 1, MaxLayers);
            }

            chain.Add(at);
        }

        return chain;
    }

    private void Read(XmlReader reader)
    {
        var path = new List<string>();
        var text = new StringBuilder();
        while (reader.Read())
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Element when path.Count >= MaxDepth:
                    throw BlockException.Limit("the descriptor is nested too deeply", path.Count + 1, MaxDepth);
                case XmlNodeType.Element:
                    text.Clear();
                    path.Add(reader.LocalName);
                    if (reader.IsEmptyElement)
                    {
                        End(path, "");
                    }

                    break;
                case XmlNodeType.Text or XmlNodeType.CDATA:
                    text.Append(reader.Value);
                    break;
                case XmlNodeType.EndElement:
                    End(path, text.ToString().Trim());
                    text.Clear();
                    break;
                default:
                    break;
            }
        }
    }

    /// <summary>An element ended: a value, or a group of values that is complete.</summary>
    private void End(List<string> path, string text)
    {
        string name = path[^1];
        path.RemoveAt(path.Count - 1);
        string parent = path.Count == 0 ? "" : path[^1];
        switch (parent, name)
        {
            case ("Disk_Parameters", "Disk_size") or ("Disk_Parameters", "Padding"):
                _values[name] = text;
                break;
            case ("Encryption", "Engine") when Guid.TryParse(text, out Guid engine) && engine != Guid.Empty:
                throw BlockException.Unsupported("encrypted Parallels disks are not supported");
            case ("Storage", "Start") or ("Storage", "End") or ("Image", "GUID") or ("Image", "Type")
                or ("Image", "File") or ("Shot", "GUID") or ("Shot", "ParentGUID"):
                _values[$"{parent}.{name}"] = text;
                break;
            case ("Snapshots", "TopGUID"):
                _top = ToGuid(text, "TopGUID");
                break;
            case ("Storage", "Image"):
                AddFile();
                break;
            case ("StorageData", "Storage"):
                AddStorage();
                break;
            case ("Snapshots", "Shot"):
                AddShot();
                break;
            default:
                break;
        }
    }

    private void AddFile()
    {
        if (++_fileCount > MaxFiles)
        {
            throw BlockException.Limit("the bundle has too many files", _fileCount, MaxFiles);
        }

        string type = Take("Image.Type");
        if (type is not ("Compressed" or "Plain"))
        {
            throw BlockException.Unsupported($"files of type '{Shorten(type)}' in a bundle are not supported");
        }

        _files.Add(new ParallelsFile(ToGuid(Take("Image.GUID"), "GUID"), type == "Plain", Take("Image.File")));
    }

    private void AddStorage()
    {
        long start = ToSectors(Take("Storage.Start"), "Start");
        long end = ToSectors(Take("Storage.End"), "End");
        if (start != (_storages.Count == 0 ? 0 : _storages[^1].End) || end <= start)
        {
            throw BlockException.Invalid($"the parts of the disk do not follow one another (0x{start:x}…0x{end:x})");
        }

        if (_files.DistinctBy(file => file.Id).Count() != _files.Count)
        {
            throw BlockException.Invalid("a part of the disk has two files for one snapshot");
        }

        _storages.Add(new ParallelsStorage(start, end, [.. _files]));
        _files.Clear();
    }

    private void AddShot()
    {
        Guid id = ToGuid(Take("Shot.GUID"), "GUID");
        Guid parent = ToGuid(Take("Shot.ParentGUID"), "ParentGUID");
        if (_shots.Count >= MaxFiles || !_parents.TryAdd(id, parent))
        {
            throw BlockException.Invalid($"the snapshot {id:B} stands twice in the descriptor");
        }

        _shots.Add(id);
    }

    private void Finish()
    {
        if (_storages.Count == 0)
        {
            throw BlockException.Invalid("the descriptor names no files");
        }

        if (_values.TryGetValue("Padding", out string? padding) && padding is not ("" or "0"))
        {
            throw BlockException.Unsupported("disks with padding are not supported");
        }

        if (!_values.TryGetValue("Disk_size", out string? size) || ToSectors(size, "Disk_size") != Length)
        {
            throw BlockException.Invalid(
                "the disk's size is not that of its parts", null, Shorten(size ?? "none"),
                $"{Length / ParallelsLayout.SectorSize} sectors");
        }

        IReadOnlyList<ParallelsFile> files = _storages[0].Files;
        Top = _top ?? (files.Count == 1 ? files[0].Id : s_usualTop);
    }

    private string Take(string key) => _values.Remove(key, out string? value) && value.Length > 0
        ? value : throw BlockException.Invalid($"the descriptor lacks {key.Replace('.', '/')}");

    private static long ToSectors(string text, string what) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long sectors)
        && sectors <= long.MaxValue / ParallelsLayout.SectorSize
            ? sectors * ParallelsLayout.SectorSize
            : throw BlockException.Invalid($"{what} in the descriptor is no number of sectors", null, Shorten(text));

    private static Guid ToGuid(string text, string what) => Guid.TryParse(text, out Guid id) ? id
        : throw BlockException.Invalid($"{what} in the descriptor is no GUID", null, Shorten(text));

    private static string Shorten(string text) => text.Length <= 60 ? text : text[..60] + "…";
}
