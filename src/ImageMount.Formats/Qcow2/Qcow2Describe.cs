using ImageMount.Core.Info;

namespace ImageMount.Formats.Qcow2;

/// <summary>What `info` shows of an image, with the names and the order of qemu-img's JSON.</summary>
internal static class Qcow2Describe
{
    public static void Fill(
        DeviceInfo info, Qcow2Image image, long length, IEnumerable<Qcow2Snapshot> snapshots,
        IReadOnlyList<Qcow2Bitmap> bitmaps, Func<string, string> resolve)
    {
        Qcow2Header header = image.Header;
        info.Format = "qcow2";
        info.VirtualSize = length;
        info.ClusterSize = header.Geometry.ClusterSize;
        info.DirtyFlag = (header.Incompatible & Qcow2Incompatible.Dirty) != 0 && !image.WasRebuilt;
        if (header.CryptMethod != 0)
        {
            info.Encrypted = true;
        }

        if (header.BackingFile is not null)
        {
            info.BackingFileName = header.BackingFile;
            info.FullBackingFileName = resolve(header.BackingFile);
            info.BackingFormat = header.BackingFormat;
        }

        info.Snapshots.AddRange(snapshots.Select(snapshot => snapshot.Info));
        List<KeyValuePair<string, object>> facts = info.FormatSpecific;
        void Say(string key, object value) => facts.Add(new KeyValuePair<string, object>(key, value));
        Say("compat", header.Version == 2 ? "0.10" : "1.1");
        Say("compression-type", header.CompressionName);
        if (header.Version == 2)
        {
            Say("refcount-bits", 16L);
            SayEncryption(image, Say);
            return;
        }

        Say("lazy-refcounts", (header.Compatible & Qcow2Compatible.LazyRefcounts) != 0);
        if (bitmaps.Count > 0)
        {
            Say("bitmaps", bitmaps.Select(Describe).ToList());
        }

        Say("refcount-bits", (long)header.Geometry.RefcountBits);
        if (header.HasDataFile)
        {
            if (header.DataFile is not null)
            {
                Say("data-file", header.DataFile);
            }

            Say("data-file-raw", header.IsDataFileRaw);
        }

        SayEncryption(image, Say);
        Say("corrupt", (header.Incompatible & Qcow2Incompatible.Corrupt) != 0);
        Say("extended-l2", header.Geometry.ExtendedL2);
    }

    private static void SayEncryption(Qcow2Image image, Action<string, object> say)
    {
        if (image.Encryption is { } encryption)
        {
            say("encrypt", new Dictionary<string, object>(encryption.Facts()));
        }
    }

    private static object Describe(Qcow2Bitmap bitmap)
    {
        var flags = new List<object>();
        if (bitmap.IsInUse)
        {
            flags.Add("in-use");
        }

        if (bitmap.IsEnabled)
        {
            flags.Add("auto");
        }

        return new Dictionary<string, object>
        {
            ["flags"] = flags,
            ["name"] = bitmap.Name,
            ["granularity"] = 1L << Math.Min((int)bitmap.GranularityBits, 62),
        };
    }
}
