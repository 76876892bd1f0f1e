using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>What the header extensions say ("Header extensions").</summary>
internal sealed class Qcow2Extensions
{
    /// <summary>Format of the parent, or null.</summary>
    public string? BackingFormat { get; private set; }

    /// <summary>Name of the data file, or null.</summary>
    public string? DataFile { get; private set; }

    /// <summary>Names of features.</summary>
    public IReadOnlyList<Qcow2FeatureName> FeatureNames { get; private set; } = [];

    /// <summary>Bitmaps, or null.</summary>
    public Qcow2BitmapsExtension? Bitmaps { get; private set; }

    /// <summary>Where the LUKS header is, or null.</summary>
    public Qcow2EncryptionExtension? Encryption { get; private set; }

    /// <summary>Reads the area between the header and the backing file's name.</summary>
    public static Qcow2Extensions Read(
        ReadOnlySpan<byte> cluster, int headerLength, in Qcow2HeaderV2 v2, int clusterSize)
    {
        var extensions = new Qcow2Extensions();
        ulong backing = v2.BackingFileOffset;
        int end = Math.Min(cluster.Length, backing == 0 || backing > (ulong)clusterSize ? clusterSize : (int)backing);
        var reader = new SpanReader(cluster[..end]);
        if (!reader.TrySeek(headerLength))
        {
            return extensions; // The name begins inside the header: no room for extensions.
        }

        while (reader.TryRead(out Qcow2ExtensionHead head))
        {
            int at = reader.Position;
            if (head.Type == Qcow2Layout.ExtensionEnd)
            {
                break;
            }

            if (head.Length > (uint)reader.Remaining
                || !reader.TryTake((int)head.Length.Value, out ReadOnlySpan<byte> data))
            {
                throw BlockException.Invalid(
                    $"header extension 0x{head.Type.Value:x8} leaves its area", at - 8, $"{head.Length.Value} bytes",
                    $"at most {reader.Remaining}");
            }

            extensions.Take(head.Type, data, at);
            reader.TrySeek(Math.Min(reader.Position + 7 & -8, end));
        }

        return extensions;
    }

    private void Take(uint type, ReadOnlySpan<byte> data, int offset)
    {
        switch (type)
        {
            case Qcow2Layout.ExtensionBackingFormat:
                BackingFormat = ReadString("the backing format", data, 15, offset);
                break;
            case Qcow2Layout.ExtensionDataFile:
                DataFile = ReadString("the data file's name", data, Qcow2Layout.MaxBackingNameLength, offset);
                break;
            case Qcow2Layout.ExtensionFeatureNames:
                FeatureNames = ReadNames(data);
                break;
            case Qcow2Layout.ExtensionEncryption:
                var reader = new SpanReader(data);
                Encryption = reader.TryRead(out Qcow2EncryptionExtension encryption)
                    ? encryption
                    : throw BlockException.Invalid(
                        "the encryption extension is too short", offset, $"{data.Length} bytes", "16 bytes");
                break;
            case Qcow2Layout.ExtensionBitmaps:
                Bitmaps = ReadBitmaps(data, offset);
                break;
            default:
                break; // Unknown extensions may be ignored; they stay in the header untouched.
        }
    }

    private static string ReadString(string what, ReadOnlySpan<byte> data, int limit, int offset)
    {
        if (data.Length > limit)
        {
            throw BlockException.Limit(what + " is too long (bytes)", data.Length, limit, offset);
        }

        return Encoding.UTF8.GetString(data);
    }

    private static List<Qcow2FeatureName> ReadNames(ReadOnlySpan<byte> data)
    {
        const int MaxNames = 3 * 64;
        var names = new List<Qcow2FeatureName>();
        for (; data.Length >= Qcow2Layout.FeatureNameEntry && names.Count < MaxNames;
            data = data[Qcow2Layout.FeatureNameEntry..])
        {
            ReadOnlySpan<byte> name = data[2..Qcow2Layout.FeatureNameEntry];
            int end = name.IndexOf((byte)0);
            names.Add(new Qcow2FeatureName(data[0], data[1], Encoding.UTF8.GetString(end < 0 ? name : name[..end])));
        }

        return names;
    }

    private static Qcow2BitmapsExtension ReadBitmaps(ReadOnlySpan<byte> data, int offset)
    {
        var reader = new SpanReader(data);
        if (!reader.TryRead(out Qcow2BitmapsExtension bitmaps))
        {
            throw BlockException.Invalid(
                "the bitmaps extension is too short", offset, $"{data.Length} bytes", "24 bytes");
        }

        if (bitmaps.Count.Value is 0 or > Qcow2Layout.MaxBitmaps)
        {
            throw BlockException.Limit(
                "the number of bitmaps is out of range", bitmaps.Count.Value, Qcow2Layout.MaxBitmaps, offset);
        }

        if (bitmaps.DirectorySize > (ulong)Qcow2Layout.MaxBitmapDirectoryBytes)
        {
            throw BlockException.Limit(
                "the bitmap directory is too large (bytes)", (long)Math.Min(bitmaps.DirectorySize, long.MaxValue),
                Qcow2Layout.MaxBitmapDirectoryBytes, offset + 8);
        }

        return bitmaps;
    }
}
