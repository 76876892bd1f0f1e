using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// Reads the whole folder into a table, folder after folder in the order in which they are found, so that the entries of
/// each follow one another. Files are not opened. Links, devices, pipes and sockets are left out with a note, and so is
/// what another file system is mounted on: that is not in the folder (and may be our own mount).
/// </summary>
internal sealed class FolderScan
{
    /// <summary>Most folders in one another.</summary>
    public const int MaxDepth = 512;

    private const uint OwnerMayWrite = 0x80;
    private readonly HostFolder _host;
    private readonly ScanReport _report;
    private readonly TimeZoneInfo _zone;
    private readonly EntryTable _table = new();
    private readonly FolderReader _reader = new();
    private readonly FolderNames _names;
    private readonly List<int> _leftOut = [];
    private readonly bool _hasLabel;

    private FolderScan(HostFolder host, ScanReport report, TimeZoneInfo zone, bool hasLabel)
    {
        _host = host;
        _report = report;
        _zone = zone;
        _hasLabel = hasLabel;
        _names = new FolderNames(_table, report);
    }

    /// <summary>Scans the folder.</summary>
    /// <param name="host">The folder.</param>
    /// <param name="report">Where to say what is left out or changed.</param>
    /// <param name="zone">Whose time directory entries show.</param>
    /// <param name="hasLabel">The root folder has an entry for the label.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static EntryTable Run(
        HostFolder host, ScanReport report, TimeZoneInfo zone, bool hasLabel, CancellationToken cancellationToken)
    {
        var scan = new FolderScan(host, report, zone, hasLabel);
        EntryTable table = scan._table;
        table.Add(scan.RecordOf(host.Stat, 0, 0, ""u8), []);
        for (int entry = 0; entry < table.Count; entry++)
        {
            if ((table[entry].Attributes & FatAttributes.Directory) != 0)
            {
                cancellationToken.ThrowIfCancellationRequested();
                scan.ScanFolder(entry);
            }
        }

        return table;
    }

    private void ScanFolder(int folder)
    {
        int first = _table.Count;
        SafeFileHandle? handle = _host.TryGetFolder(_table, folder, out int errno);
        errno = handle is null ? errno : _reader.Read(handle);
        if (errno != 0 && folder == 0)
        {
            throw HostErrors.Make(errno, "cannot read the folder", _host.Path);
        }

        if (errno is Errno.ENOENT or Errno.ENOTDIR or Errno.ELOOP)
        {
            _report.Note(_table.PathOf(folder), "went away while the folder was read; it is shown empty");
        }
        else if (errno != 0)
        {
            _report.Problem(_table.PathOf(folder), $"cannot be read ({Errno.Format(errno)})", "it is shown empty");
        }
        else
        {
            AddEntries(folder);
            _leftOut.Clear();
            _names.Assign(first, _leftOut);
            _table.Remove(first, _leftOut);
        }

        FitSize(folder, first);
        _table[folder].FirstChild = first;
        _table[folder].ChildCount = _table.Count - first;
    }

    private void AddEntries(int folder)
    {
        int depth = _table[folder].Depth + 1;
        for (int i = 0; i < _reader.Count; i++)
        {
            StatInfo stat = _reader.Stats[i];
            ReadOnlySpan<byte> name = _reader.NameOf(i);
            if ((IsOurs(name) ? ((string Text, bool IsProblem)?)("begins with '.imgmount-', which is kept for our own use", false) : WhyNot(stat, depth))
                is not { } why)
            {
                _table.Add(RecordOf(stat, folder, depth, name), name);
                continue;
            }

            string path = $"{(folder == 0 ? "" : _table.PathOf(folder) + "/")}{System.Text.Encoding.UTF8.GetString(name)}";
            if (why.IsProblem)
            {
                _report.Problem(path, why.Text);
            }
            else
            {
                _report.Note(path, $"{why.Text}; left out");
            }
        }
    }

    /// <summary>Names that applying what is written uses in the folder; see StagingFolder.</summary>
    private static bool IsOurs(ReadOnlySpan<byte> name)
    {
        ReadOnlySpan<byte> prefix = ".imgmount-"u8;
        return name.Length >= prefix.Length && System.Text.Ascii.EqualsIgnoreCase(name[..prefix.Length], prefix);
    }

    private (string Text, bool IsProblem)? WhyNot(StatInfo stat, int depth) => stat switch
    {
        { IsRegular: true, Size: > FatLayout.MaxFileSize } =>
            ($"has {stat.Size} bytes, more than the 4 GiB - 1 of a file on FAT", true),
        { IsRegular: true } => null,
        { IsDirectory: true } when DeviceOf(stat) != DeviceOf(_host.Stat) =>
            ("has another file system mounted on it", false),
        { IsDirectory: true } when depth > MaxDepth => ($"lies in more than {MaxDepth} folders", true),
        { IsDirectory: true } => null,
        { IsSymbolicLink: true } => ("is a symbolic link", false),
        { IsFifo: true } => ("is a pipe", false),
        { IsSocket: true } => ("is a socket", false),
        _ => ("is a device", false),
    };

    private EntryRecord RecordOf(StatInfo stat, int parent, int depth, ReadOnlySpan<byte> name) => new()
    {
        HostSize = stat.Size,
        HostModifiedNs = stat.ModifiedNs,
        HostChangedNs = stat.ChangedNs,
        HostInode = stat.Inode,
        HostDevice = DeviceOf(stat),
        Parent = parent,
        Depth = (ushort)depth,
        Size = stat.IsDirectory ? 0 : (uint)stat.Size,
        Attributes = (stat.IsDirectory ? FatAttributes.Directory : FatAttributes.Archive)
            | (!stat.IsDirectory && (stat.Mode & OwnerMayWrite) == 0 ? FatAttributes.ReadOnly : 0)
            | (name.StartsWith("."u8) ? FatAttributes.Hidden : 0),
        Times = FatTimestamps.FromUnix(
            stat.ModifiedNs, stat.CreatedNs ?? stat.ModifiedNs, stat.AccessedNs, _zone),
    };

    /// <summary>Counts the directory's entries; what goes beyond the largest directory is left out.</summary>
    private void FitSize(int folder, int first)
    {
        // "." and "..", or the label.
        int slots = folder == 0 ? (_hasLabel ? 1 : 0) : 2;
        int kept = first;
        while (kept < _table.Count)
        {
            int more = 1 + LongName.EntriesFor(_table[kept].LongUnits);
            if ((slots + more) * FatLayout.DirectoryEntrySize > FatLayout.MaxDirectorySize)
            {
                break;
            }

            slots += more;
            kept++;
        }

        if (kept < _table.Count)
        {
            for (int entry = kept; entry < _table.Count; entry++)
            {
                _report.Problem(_table.PathOf(entry), "lies in a folder with more entries than a folder on FAT can have");
            }

            _table.Truncate(kept);
        }

        _table[folder].Size = (uint)(slots * FatLayout.DirectoryEntrySize);
    }

    private static ulong DeviceOf(StatInfo stat) => (ulong)stat.DeviceMajor << 32 | stat.DeviceMinor;
}
