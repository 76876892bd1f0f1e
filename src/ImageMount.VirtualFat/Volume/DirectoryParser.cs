using System.Globalization;
using System.Runtime.InteropServices;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Volume;

/// <summary>
/// Takes a folder apart, entry by entry, and notes everything in it that is not as it should be: long names that
/// belong to no short one, names that FAT does not allow, names that are there twice, wrong "." and "..".
/// </summary>
/// <param name="findings">Where problems go.</param>
internal sealed class DirectoryParser(VolumeFindings findings)
{
    /// <summary>
    /// What names of our own begin with in the host's folder (<c>Applying</c>). A guest cannot make such names, or it
    /// could make us believe that they are ours.
    /// </summary>
    public const string ReservedPrefix = ".imgmount-";

    private readonly List<LongNameEntry> _parts = [];
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private readonly HashSet<ShortName83> _shortNames = [];

    /// <summary>The volume's label, once it was met.</summary>
    public string? Label { get; private set; }

    /// <summary>Takes a folder apart.</summary>
    /// <param name="bytes">All of it.</param>
    /// <param name="index">Its index.</param>
    /// <param name="folder">The folder.</param>
    /// <param name="parentCluster">First cluster of its parent, 0 when that is the root.</param>
    /// <param name="path">Its path, for findings.</param>
    /// <param name="offsetOf">From an offset in the folder to one on the disk.</param>
    /// <param name="found">Takes the entries.</param>
    public void Parse(
        ReadOnlySpan<byte> bytes, int index, VolumeNode folder, uint parentCluster, string path,
        Func<int, long> offsetOf, List<VolumeNode> found)
    {
        _parts.Clear();
        _names.Clear();
        _shortNames.Clear();
        bool isRoot = folder.Parent < 0;
        int first = isRoot ? 0 : 2;
        ReadOnlySpan<DirectoryEntry> entries = MemoryMarshal.Cast<byte, DirectoryEntry>(bytes);
        if (!isRoot)
        {
            CheckDot(entries, 0, ShortName83.Dot, folder.FirstCluster, path, offsetOf);
            CheckDot(entries, 1, ShortName83.DotDot, parentCluster, path, offsetOf);
        }

        int partsAt = 0;
        for (int i = first; i < entries.Length; i++)
        {
            DirectoryEntry entry = entries[i];
            byte mark = bytes[i * FatLayout.DirectoryEntrySize];
            long at = offsetOf(i * FatLayout.DirectoryEntrySize);
            if (mark == DirectoryEntry.EndMark)
            {
                break;
            }

            if (mark != DirectoryEntry.FreeMark && entry.IsLongName)
            {
                partsAt = _parts.Count == 0 ? i : partsAt;
                LongNameEntry part = MemoryMarshal.Cast<byte, LongNameEntry>(bytes)[i];
                _parts.Add(part);
                if (part.Type != 0 || part.FirstCluster != 0)
                {
                    findings.Add(FindingKind.Name, "a part of a long name has something where nothing belongs", path, at);
                }

                if (_parts.Count > LongName.MaxEntries)
                {
                    findings.Add(FindingKind.Name, "a long name has more than 20 parts", path, at);
                    _parts.Clear();
                }

                continue;
            }

            if (mark == DirectoryEntry.FreeMark || (entry.Attributes & FatAttributes.VolumeId) != 0)
            {
                DropParts(path, offsetOf(partsAt * FatLayout.DirectoryEntrySize));
                if (mark != DirectoryEntry.FreeMark)
                {
                    TakeLabel(entry, isRoot, path, at);
                }

                continue;
            }

            Take(entry, index, folder, path, at, found);
            _parts.Clear();
        }

        DropParts(path, offsetOf(partsAt * FatLayout.DirectoryEntrySize));
    }

    private void DropParts(string path, long at)
    {
        if (_parts.Count > 0)
        {
            findings.Add(FindingKind.Name, "parts of a long name that belong to no entry", path, at);
            _parts.Clear();
        }
    }

    private void TakeLabel(DirectoryEntry entry, bool isRoot, string path, long at)
    {
        if (!isRoot || Label is not null)
        {
            findings.Add(
                FindingKind.Entry, isRoot ? "there are two labels" : "a label outside the root folder", path, at);
            return;
        }

        Span<byte> bytes = stackalloc byte[ShortName83.Size];
        entry.Name.CopyTo(bytes);
        Label = System.Text.Encoding.Latin1.GetString(bytes).TrimEnd(' ');
    }

    private void CheckDot(
        ReadOnlySpan<DirectoryEntry> entries, int place, ShortName83 name, uint cluster, string path,
        Func<int, long> offsetOf)
    {
        DirectoryEntry entry = place < entries.Length ? entries[place] : default;
        if (entry.Name != name || entry.IsLongName || (entry.Attributes & FatAttributes.Directory) == 0
            || entry.FirstCluster != cluster)
        {
            findings.Add(
                FindingKind.Entry,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"'{name}' leads to cluster {entry.FirstCluster} instead of {cluster}, or is not there"),
                path, offsetOf(place * FatLayout.DirectoryEntrySize));
        }
    }

    private void Take(
        DirectoryEntry entry, int index, VolumeNode folder, string path, long at, List<VolumeNode> found)
    {
        string shortText = entry.Name.ToText(entry.Case);
        string name = shortText;
        if (_parts.Count > 0 && !LongName.TryUnpack(CollectionsMarshal.AsSpan(_parts), entry.Name.Checksum(), out name))
        {
            findings.Add(FindingKind.Name, $"the long name of '{shortText}' is damaged", path, at);
            return;
        }

        if (!IsGoodShortName(entry.Name))
        {
            findings.Add(FindingKind.Name, $"'{shortText}' is not a name of 8 and 3 characters", path, at);
        }

        NameProblem problem = name is "." or ".." ? NameProblem.TrailingDotOrSpace : NameRules.Check(name);
        if (problem != NameProblem.None)
        {
            findings.Add(FindingKind.Name, $"the name '{name}' {NameRules.Describe(problem)}", path, at);
            return;
        }

        if (name.StartsWith(ReservedPrefix, StringComparison.OrdinalIgnoreCase))
        {
            findings.Add(
                FindingKind.Name, $"the name '{name}' begins with '{ReservedPrefix}', which is kept for our own use",
                path, at);
            return;
        }

        if (!_names.Add(NameRules.Fold(name)) || !_shortNames.Add(entry.Name))
        {
            findings.Add(FindingKind.Name, $"the name '{name}' ({shortText}) is there twice", path, at);
            return;
        }

        bool isDirectory = (entry.Attributes & FatAttributes.Directory) != 0;
        if (isDirectory ? entry.Size != 0 || entry.FirstCluster == 0 : (entry.Size == 0) != (entry.FirstCluster == 0))
        {
            findings.Add(
                FindingKind.Entry,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"'{name}' has {entry.Size.Value} bytes and begins at cluster {entry.FirstCluster}"),
                path, at);
            return;
        }

        found.Add(new VolumeNode
        {
            Parent = index,
            IsDirectory = isDirectory,
            Name = name,
            ShortName = entry.Name,
            Attributes = entry.Attributes,
            Times = entry.Times,
            FirstCluster = entry.FirstCluster,
            Size = entry.Size,
            Depth = folder.Depth + 1,
        });
    }

    /// <summary>"Short Directory Entries"; small letters are let pass, because many write them.</summary>
    private static bool IsGoodShortName(ShortName83 name)
    {
        Span<byte> bytes = stackalloc byte[ShortName83.Size];
        name.CopyTo(bytes);
        if (bytes[0] == ' ')
        {
            return false;
        }

        bytes[0] = bytes[0] == DirectoryEntry.KanjiMark ? (byte)'X' : bytes[0];
        foreach (byte b in bytes)
        {
            if (b < 0x80 && b != ' ' && !ShortName.IsAllowed((char)b))
            {
                return false;
            }
        }

        return true;
    }
}
