using System.Globalization;
using System.Text;
using ImageMount.Interop;

namespace ImageMount.Fuse.Mount;

/// <summary>One line of /proc/self/mountinfo (proc(5)), octal escapes resolved.</summary>
/// <param name="Id">Mount id.</param>
/// <param name="Device">MAJOR:MINOR; the minor number names the FUSE connection.</param>
/// <param name="Root">Which part of the file system is mounted.</param>
/// <param name="MountPoint">Where.</param>
/// <param name="Options">Per-mount options.</param>
/// <param name="Type">File system type, <c>fuse.imgmount</c> for us.</param>
/// <param name="Source">fsname.</param>
public sealed record MountEntry(
    int Id, string Device, string Root, string MountPoint, string Options, string Type, string Source)
{
    /// <summary>Minor number of the device: the directory name below /sys/fs/fuse/connections.</summary>
    public int Minor => int.Parse(Device[(Device.IndexOf(':') + 1)..], CultureInfo.InvariantCulture);

    /// <summary>Mounted read-only.</summary>
    public bool IsReadOnly => Options.Split(',').Contains("ro");
}

/// <summary>What is mounted, and which mounts are dead.</summary>
public static class MountTable
{
    private const string MountInfo = "/proc/self/mountinfo";

    /// <summary>All mounts visible to this process, in mount order (a later one covers an earlier one).</summary>
    public static IReadOnlyList<MountEntry> Read() => Parse(File.ReadAllBytes(MountInfo));

    /// <summary>The FUSE mounts of one subtype.</summary>
    public static IReadOnlyList<MountEntry> ReadFuse(string subtype = "imgmount") =>
        [.. Read().Where(m => m.Type == "fuse." + subtype)];

    /// <summary>The topmost mount exactly at <paramref name="path"/> (absolute, symlinks resolved by the caller), or
    /// null.</summary>
    public static MountEntry? Find(string path)
    {
        string wanted = Normalize(path);
        return Read().LastOrDefault(m => m.MountPoint == wanted);
    }

    /// <summary>True when <paramref name="path"/> is a FUSE mount whose server is gone: stat(2) says
    /// ENOTCONN.</summary>
    public static bool IsDeadMount(string path) => Stat.TryGetFresh(path, out _) == -Errno.ENOTCONN;

    /// <summary>Detaches a dead mount lazily. False when <paramref name="path"/> is none. Throws
    /// <see cref="FuseMountException"/> when it cannot be detached.</summary>
    public static bool TryDetachDead(string path)
    {
        if (!IsDeadMount(path))
        {
            return false;
        }
        FuseUnmount.Unmount(path, lazy: true);
        return true;
    }

    /// <summary>Parses the text of a mountinfo file; lines that do not have its form are left out.</summary>
    public static IReadOnlyList<MountEntry> Parse(ReadOnlySpan<byte> text)
    {
        var entries = new List<MountEntry>();
        foreach (Range line in text.Split((byte)'\n'))
        {
            if (ParseLine(Encoding.Latin1.GetString(text[line])) is { } entry)
            {
                entries.Add(entry);
            }
        }
        return entries;
    }

    // ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS
    private static MountEntry? ParseLine(string line)
    {
        string[] fields = line.Split(' ');
        int dash = Array.IndexOf(fields, "-", Math.Min(6, fields.Length));
        if (dash < 0 || fields.Length < dash + 3
            || !int.TryParse(fields[0], NumberStyles.None, CultureInfo.InvariantCulture, out int id)
            || !IsDevice(fields[2]))
        {
            return null;
        }
        return new MountEntry(
            id, fields[2], Unescape(fields[3]), Unescape(fields[4]), fields[5], Unescape(fields[dash + 1]),
            Unescape(fields[dash + 2]));
    }

    private static bool IsDevice(string field)
    {
        int colon = field.IndexOf(':');
        return colon > 0
            && int.TryParse(field.AsSpan(0, colon), NumberStyles.None, CultureInfo.InvariantCulture, out _)
            && int.TryParse(field.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out _);
    }

    // The kernel writes space, tab, newline, backslash and '#' as \ooo. The rest is UTF-8, read here as Latin-1.
    private static string Unescape(string latin1)
    {
        var bytes = new byte[latin1.Length];
        int length = 0;
        for (int i = 0; i < latin1.Length; i++)
        {
            if (latin1[i] == '\\' && i + 3 < latin1.Length && IsOctal(latin1[i + 1]) && IsOctal(latin1[i + 2])
                && IsOctal(latin1[i + 3]))
            {
                int value = ((latin1[i + 1] - '0') << 6) | ((latin1[i + 2] - '0') << 3) | (latin1[i + 3] - '0');
                bytes[length++] = (byte)value;
                i += 3;
            }
            else
            {
                bytes[length++] = (byte)latin1[i];
            }
        }
        return Encoding.UTF8.GetString(bytes, 0, length);
    }

    private static bool IsOctal(char c) => c is >= '0' and <= '7';

    private static string Normalize(string path)
    {
        string full = Path.GetFullPath(path);
        return full.Length > 1 ? full.TrimEnd('/') : full;
    }
}
