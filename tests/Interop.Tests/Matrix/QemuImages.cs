using ImageMount.Interop.Tests.Peers;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>An image that qemu made, and where its content is.</summary>
/// <param name="Path">The image.</param>
/// <param name="Format">Its format.</param>
/// <param name="Length">Virtual size, bytes.</param>
/// <param name="Islands">Ranges of the disk where something is stored; the rest was never touched.</param>
public sealed record QemuImage(string Path, string Format, long Length, IReadOnlyList<(long Start, long End)> Islands)
{
    /// <summary>The parent's file, or null.</summary>
    public string? Backing { get; init; }
}

/// <summary>
/// Makes hostile but valid images with qemu: clusters in shuffled order, every kind of run beside every other, odd
/// sizes, and bytes that differ from their neighbours, so that a read from the wrong place cannot go unnoticed.
/// </summary>
public static class QemuImages
{
    // A prime: a cluster that is read from the wrong offset, even a multiple of 512, shows other bytes.
    private const int PatternLength = 251;
    private const int Patterns = 7;

    /// <summary>Makes a qcow2 image of a variant; the same for the same seed.</summary>
    public static QemuImage Qcow2(Scratch scratch, Qcow2Variant variant, int seed)
    {
        var random = new Random(seed);
        string[] patterns = MakePatterns(scratch, random);
        (long length, List<(long, long)> islands) = Layout(variant, random);
        string path = scratch["image.qcow2"];
        string? backing = MakeBacking(scratch, variant, length, random, patterns);
        var create = new List<string> { "create", "-q", "-f", "qcow2", "-o", variant.CreateOptions(scratch["data.raw"]) };
        if (backing is not null)
        {
            // By its bare name: whoever reads it has to look beside the image.
            create.AddRange(["-b", Path.GetFileName(backing), "-F", variant.Backing.Split('-')[0]]);
        }

        PeerTool.Img([.. create, path, length.ToString()]);
        // qemu writes a compressed cluster only where nothing is allocated yet; and many of them share one cluster, so
        // that a snapshot, which doubles the references, overflows narrow refcounts.
        bool mayCompress = variant.DataFile == "none" && variant.Preallocation == "off"
            && (variant.Snapshots == 0 || variant.RefcountBits >= 8);
        PeerTool.Io(path, "qcow2", Writes(random, variant.ClusterSize, length, islands, patterns, mayCompress));
        if (variant.Bitmaps)
        {
            PeerTool.Img("bitmap", "--add", "-f", "qcow2", path, "bitmap-0");
            PeerTool.Img("bitmap", "--add", "--disable", "-g", "64k", "-f", "qcow2", path, "bitmap-1");
        }

        for (int i = 0; i < variant.Snapshots; i++)
        {
            PeerTool.Img("snapshot", "-c", $"snap-{i}", path);
            PeerTool.Io(path, "qcow2", Writes(random, variant.ClusterSize, length, islands, patterns, false, 4));
        }

        return new QemuImage(path, "qcow2", length, islands) { Backing = backing };
    }

    /// <summary>Makes a VMDK of a subformat.</summary>
    public static QemuImage Vmdk(Scratch scratch, string subformat, string extraOptions, long length, int seed)
    {
        var random = new Random(seed);
        string[] patterns = MakePatterns(scratch, random);
        List<(long, long)> islands = length <= 32 << 20
            ? [(0, length)]
            : [(0, 3 << 20), (length / 2 - (1 << 20), length / 2 + (1 << 20)), (length - (3 << 20), length)];
        string path = scratch["image.vmdk"];
        string options = $"subformat={subformat}{extraOptions}";
        if (subformat == "streamOptimized")
        {
            // Only convert writes these: through a qcow2 with the wanted content.
            var source = new Qcow2Variant();
            string through = scratch["source.qcow2"];
            PeerTool.Img("create", "-q", "-f", "qcow2", through, length.ToString());
            PeerTool.Io(through, "qcow2", Writes(random, source.ClusterSize, length, islands, patterns, false));
            PeerTool.Img("convert", "-q", "-O", "vmdk", "-o", options, through, path);
        }
        else
        {
            PeerTool.Img("create", "-q", "-f", "vmdk", "-o", options, path, length.ToString());
            PeerTool.Io(path, "vmdk", Writes(random, 64 << 10, length, islands, patterns, false));
        }

        return new QemuImage(path, "vmdk", length, islands);
    }

    /// <summary>Makes an image of a format with one allocation table.</summary>
    public static QemuImage FlatTable(
        Scratch scratch, string format, string options, int unit, long length, int seed)
    {
        var random = new Random(seed);
        string[] patterns = MakePatterns(scratch, random);
        string path = scratch["image." + format];
        string[] more = options.Length == 0 ? [] : ["-o", options];
        PeerTool.Img(["create", "-q", "-f", format, .. more, path, length.ToString()]);
        // Parts of units that are written and rewritten, in disorder, with gaps of whole units.
        List<(long, long)> islands = length <= 24 << 20 ? [(0, length)] : [(0, 6 << 20), (length - (9 << 20), length)];
        PeerTool.Io(path, format, Writes(random, unit, length, islands, patterns, false));
        return new QemuImage(path, format, length, islands);
    }

    /// <summary>Makes a VHDX with options of qemu-img.</summary>
    public static QemuImage Vhdx(Scratch scratch, string options, long length, int seed)
    {
        var random = new Random(seed);
        string[] patterns = MakePatterns(scratch, random);
        List<(long, long)> islands = length <= 32 << 20
            ? [(0, length)]
            : [(0, 3 << 20), (length / 2 - (1 << 20), length / 2 + (1 << 20)), (length - (3 << 20), length)];
        string path = scratch["image.vhdx"];
        PeerTool.Img("create", "-q", "-f", "vhdx", "-o", options, path, length.ToString());
        PeerTool.Io(path, "vhdx", Writes(random, 256 << 10, length, islands, patterns, false));
        return new QemuImage(path, "vhdx", length, islands);
    }

    /// <summary>Makes a qed, or a qcow of version 1 (with compressed clusters), perhaps with a raw parent beside it.</summary>
    public static QemuImage TwoLevel(
        Scratch scratch, string format, string options, long length, bool hasParent, int seed)
    {
        var random = new Random(seed);
        string[] patterns = MakePatterns(scratch, random);
        List<(long, long)> islands = length <= 32 << 20
            ? [(0, length)]
            : [(0, 3 << 20), ((length / 2) - (1 << 20), (length / 2) + (1 << 20)), (length - (3 << 20), length)];
        string path = scratch["image." + format];
        var create = new List<string> { "create", "-q", "-f", format };
        if (options.Length > 0)
        {
            create.AddRange(["-o", options]);
        }

        if (hasParent)
        {
            // Shorter than the disk, and by its bare name.
            long parentLength = (length * 2 / 3) & -512L;
            PeerTool.Img("create", "-q", "-f", "raw", scratch["backing.raw"], parentLength.ToString());
            PeerTool.Io(
                scratch["backing.raw"], "raw",
                Writes(random, 64 << 10, parentLength, [(0, Math.Min(parentLength, 2 << 20))], patterns, false));
            create.AddRange(["-b", "backing.raw", "-F", "raw"]);
        }

        PeerTool.Img([.. create, path, length.ToString()]);
        int cluster = format == "qcow" ? 4096 : 64 << 10;
        PeerTool.Io(path, format, Writes(
            random, cluster, length, islands, patterns, mayCompress: format == "qcow" && !hasParent,
            skip: length <= 1 << 20 ? 1 : 3));
        return new QemuImage(path, format, length, islands) { Backing = hasParent ? scratch["backing.raw"] : null };
    }

    /// <summary>The flat content as qemu reads it, in a sparse file.</summary>
    public static string Flatten(QemuImage image, string target, string? snapshot = null)
    {
        List<string> arguments = ["convert", "-q", "-f", image.Format, "-O", "raw"];
        if (snapshot is not null)
        {
            arguments.AddRange(["-l", $"snapshot.name={snapshot}"]);
        }

        PeerTool.Img([.. arguments, image.Path, target]);
        return target;
    }

    private static (long Length, List<(long, long)> Islands) Layout(Qcow2Variant variant, Random random)
    {
        int cluster = variant.ClusterSize;
        long tableReach = cluster / (variant.ExtendedL2 ? 16 : 8) * (long)cluster;
        long length = cluster switch
        {
            512 => 5 * tableReach,
            4096 => tableReach * 3 / 2,
            // What one L2 table covers and a little more, unless all of it is going to be written.
            65536 => variant.Preallocation == "off" ? tableReach + 20 * cluster : 60 * cluster,
            _ => 20L * cluster,
        };
        if (variant.OddSize)
        {
            length += cluster == 512 ? 512 * 3 : 512 * random.Next(1, cluster / 512);
        }

        return length < 96 << 20
            ? (length, [(0, length)])
            : (length, [(0, 40 * cluster), (tableReach - 20 * cluster, length)]);
    }

    private static string? MakeBacking(
        Scratch scratch, Qcow2Variant variant, long length, Random random, string[] patterns)
    {
        if (variant.Backing == "none")
        {
            return null;
        }

        string format = variant.Backing.Split('-')[0];
        long backingLength = variant.Backing.EndsWith("short", StringComparison.Ordinal)
            ? Math.Max(512, (length * 2 / 3 & -512L) - 512)
            : length + 512 * random.Next(1, 999);
        string path = scratch["backing." + format];
        PeerTool.Img("create", "-q", "-f", format, path, backingLength.ToString());
        long island = Math.Min(backingLength, 4 << 20);
        List<(long, long)> islands = [(0, island), (backingLength - island, backingLength)];
        if (length > 96 << 20)
        {
            islands.Add((length - (2 << 20), Math.Min(length, backingLength)));
            islands.RemoveAll(range => range.Item2 <= range.Item1);
        }

        PeerTool.Io(path, format, Writes(random, 64 << 10, backingLength, islands, patterns, format == "qcow2"));
        return path;
    }

    internal static string[] MakePatterns(Scratch scratch, Random random)
    {
        string[] files = new string[Patterns];
        for (int i = 0; i < files.Length; i++)
        {
            byte[] bytes = new byte[PatternLength];
            random.NextBytes(bytes);
            files[i] = scratch[$"pattern{i}"];
            File.WriteAllBytes(files[i], bytes);
        }

        return files;
    }

    /// <summary>
    /// qemu-io commands for islands of mixed runs, cluster by cluster in random order. <paramref name="skip"/> of five
    /// clusters are left as they are.
    /// </summary>
    internal static List<string> Writes(
        Random random, int cluster, long length, IReadOnlyList<(long Start, long End)> islands, string[] patterns,
        bool mayCompress, int skip = 1)
    {
        var steps = new List<string[]>();
        var seen = new HashSet<long>();
        foreach ((long start, long end) in islands)
        {
            for (long at = start & -cluster; at < end; at += cluster)
            {
                if (seen.Add(at) && random.Next(5) >= skip)
                {
                    long count = Math.Min(cluster, length - at);
                    steps.Add(Step(random, at, count, cluster, length, patterns, mayCompress));
                }
            }
        }

        string[][] order = [.. steps];
        random.Shuffle(order);
        // The later ones of a cluster's commands come after all first ones, so that freed clusters are used again.
        return [.. order.Select(step => step[0]), .. order.SelectMany(step => step.Skip(1))];
    }

    private static string[] Step(
        Random random, long at, long count, int cluster, long length, string[] patterns, bool mayCompress)
    {
        string source = patterns[random.Next(patterns.Length)];
        string data = $"write -q -s {source} {at} {count}";
        (long from, long part) = Part(random, at, count);
        string again = $"write -q -s {patterns[random.Next(patterns.Length)]} {from} {part}";
        bool whole = count == cluster && (count & 511) == 0;
        string pressed = mayCompress && whole ? $"write -q -c -s {source} {at} {count}" : data;
        return random.Next(12) switch
        {
            0 or 1 => [data],
            2 => [again],
            3 => [$"write -q -z {at} {count}"],
            4 => [$"write -q -z -u {at} {count}"],
            5 => [pressed],
            6 => [pressed, again],
            7 => [data, $"discard -q {at} {count}"],
            8 => [data, $"write -q -z {at} {count}", again],
            9 => [data, $"write -q -z {at} {count}"],
            10 => [data, $"write -q -z -u {from} {part}"],
            _ =>
            [
                $"write -q -P 0 {at} {count}",
                $"write -q -s {patterns[0]} {from} {Math.Min(length - from, part + cluster / 2 & -512)}",
            ],
        };
    }

    private static (long Start, long Count) Part(Random random, long at, long count)
    {
        long sectors = count / 512;
        long first = random.NextInt64(sectors);
        return (at + first * 512, 512 * (1 + random.NextInt64(sectors - first)));
    }
}
