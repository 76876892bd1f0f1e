namespace ImageMount.Mount.Tests.Support;

/// <summary>Images made by the peer from a disk's content, by kind.</summary>
public static class Images
{
    /// <summary>Kinds whose payload can be written in place.</summary>
    public static readonly string[] Writable =
    [
        "raw", "qcow2", "qcow2 v2", "qcow2 512", "qcow2 2M", "qcow2 extended", "qcow2 data file", "qcow2 raw data file",
        "qcow2 backed", "qcow2 fragmented", "vmdk sparse", "vmdk flat", "vmdk split sparse", "vmdk split flat",
    ];

    /// <summary>Kinds that are read: all that can be written, and the compressed ones.</summary>
    public static readonly string[] Readable = [.. Writable, "qcow2 zlib", "qcow2 zstd", "vmdk stream"];

    /// <summary>Makes an image of a kind in a box and gives its path; the content must be whole sectors.</summary>
    public static string Make(MountBox box, string kind, byte[] content)
    {
        string raw = box["source.bin"];
        File.WriteAllBytes(raw, content);
        string path = kind switch
        {
            "raw" => Copy(raw, box["disk.raw.img"]),
            "qcow2" => Convert(raw, box["disk.qcow2"], "qcow2", ""),
            "qcow2 v2" => Convert(raw, box["disk.qcow2"], "qcow2", "compat=0.10"),
            "qcow2 512" => Convert(raw, box["disk.qcow2"], "qcow2", "cluster_size=512"),
            "qcow2 2M" => Convert(raw, box["disk.qcow2"], "qcow2", "cluster_size=2M,refcount_bits=64"),
            "qcow2 extended" => Convert(raw, box["disk.qcow2"], "qcow2", "extended_l2=on,cluster_size=128k"),
            "qcow2 data file" => Convert(raw, box["disk.qcow2"], "qcow2", $"data_file={box["disk.data"]}"),
            "qcow2 raw data file" => Convert(
                raw, box["disk.qcow2"], "qcow2", $"data_file={box["disk.data"]},data_file_raw=on"),
            "qcow2 zlib" => Convert(raw, box["disk.qcow2"], "qcow2", "compression_type=zlib", "-c"),
            "qcow2 zstd" => Convert(raw, box["disk.qcow2"], "qcow2", "compression_type=zstd", "-c"),
            "qcow2 backed" => MakeBacked(box, raw, content),
            "qcow2 fragmented" => MakeFragmented(box, content),
            "vmdk sparse" => Convert(raw, box["disk.vmdk"], "vmdk", "subformat=monolithicSparse"),
            "vmdk flat" => Convert(raw, box["disk.vmdk"], "vmdk", "subformat=monolithicFlat"),
            "vmdk split sparse" => Convert(raw, box["disk.vmdk"], "vmdk", "subformat=twoGbMaxExtentSparse"),
            "vmdk split flat" => Convert(raw, box["disk.vmdk"], "vmdk", "subformat=twoGbMaxExtentFlat"),
            "vmdk stream" => Convert(raw, box["disk.vmdk"], "vmdk", "subformat=streamOptimized"),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "no such kind of image"),
        };
        File.Delete(raw);
        return path;
    }

    /// <summary>An empty qcow2.</summary>
    public static string MakeEmpty(MountBox box, long length, string name = "disk.qcow2", string options = "")
    {
        string path = box[name];
        string[] extra = options.Length == 0 ? [] : ["-o", options];
        Tool.Run("qemu-img", ["create", "-q", "-f", "qcow2", .. extra, path, $"{length}"]);
        return path;
    }

    private static string Copy(string from, string to)
    {
        File.Copy(from, to);
        return to;
    }

    private static string Convert(string raw, string path, string format, string options, params string[] flags)
    {
        string[] extra = options.Length == 0 ? [] : ["-o", options];
        Tool.Run("qemu-img", ["convert", "-f", "raw", "-O", format, .. flags, .. extra, raw, path]);
        return path;
    }

    /// <summary>The first half of every 300 KiB in the parent, the rest in the child, sharing clusters at the seams.</summary>
    private static string MakeBacked(MountBox box, string raw, byte[] content)
    {
        string parent = Convert(raw, box["parent.qcow2"], "qcow2", "");
        string path = box["disk.qcow2"];
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", "-b", parent, "-F", "qcow2", path);
        var random = new Random(content.Length);
        var commands = new List<string>();
        for (int at = 0; at + 512 <= content.Length; at += 300 * 1024)
        {
            int offset = at + (512 * random.Next(0, 100));
            int length = Math.Min(512 * random.Next(1, 300), content.Length - offset);
            if (length <= 0)
            {
                continue;
            }

            byte fill = (byte)random.Next(1, 256);
            content.AsSpan(offset, length).Fill(fill);
            commands.Add($"write -q -P 0x{fill:x} {offset} {length}");
        }

        WriteByPeer(path, commands);
        return path;
    }

    /// <summary>Clusters written in random order, so that neighbours on the disk are not neighbours in the file.</summary>
    private static string MakeFragmented(MountBox box, byte[] content)
    {
        string path = MakeEmpty(box, content.Length);
        int clusters = (content.Length + 65535) / 65536;
        int[] order = [.. Enumerable.Range(0, clusters)];
        new Random(clusters).Shuffle(order);
        var commands = new List<string>();
        foreach (int cluster in order)
        {
            int offset = cluster * 65536;
            int length = Math.Min(65536, content.Length - offset);
            byte fill = (byte)((cluster % 251) + 1);
            content.AsSpan(offset, length).Fill(fill);
            commands.Add($"write -q -P 0x{fill:x} {offset} {length}");
        }

        WriteByPeer(path, commands);
        return path;
    }

    private static void WriteByPeer(string path, List<string> commands)
    {
        string input = string.Join('\n', commands) + "\nquit\n";
        ToolResult result = Tool.TryWithInput(input, "qemu-io", "-t", "unsafe", "-f", "qcow2", path);
        Assert.True(result.ExitCode == 0, result.ToString());
    }
}
