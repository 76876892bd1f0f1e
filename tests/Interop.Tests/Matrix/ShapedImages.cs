using System.Collections.Concurrent;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>Makes the images of <see cref="ShapeVariant"/>, with qemu or with our own code.</summary>
public static class ShapedImages
{
    private const int Steps = 50;

    private static readonly ConcurrentDictionary<string, byte[]> s_luksHeaders = new();

    /// <summary>Made and written by qemu.</summary>
    public static QemuImage ByQemu(Scratch scratch, ShapeVariant variant, int seed)
    {
        string path = scratch["image." + variant.Format];
        long length = variant.Length;
        IReadOnlyList<(long, long)> islands = ShapeVariant.Islands(length);
        List<string> commands = Commands(scratch, variant, islands, seed);
        if (variant.IsStream)
        {
            string raw = EmptyFile(scratch["content"], length);
            PeerTool.Io(["-f", "raw", raw], commands);
            PeerTool.Img("convert", "-f", "raw", "-O", variant.Format, "-o", variant.Kind.Options, raw, path);
            return new QemuImage(path, variant.Format, length, islands);
        }

        if (variant.Format == "luks")
        {
            CopyLuks(scratch, variant, path);
        }
        else
        {
            string[] options = variant.Kind.Options.Length > 0 ? ["-o", variant.Kind.Options] : [];
            PeerTool.Img(["create", "-q", "-f", variant.Format, .. options, path, length.ToString()]);
        }

        if (commands.Count > 0)
        {
            PeerTool.Io(Source(scratch, variant.Format, path), commands);
        }

        return new QemuImage(path, variant.Format, length, islands);
    }

    /// <summary>Made and written by us; <paramref name="model"/> gets the content, as a flat file.</summary>
    public static async Task<QemuImage> ByUsAsync(Scratch scratch, ShapeVariant variant, string model, int seed)
    {
        string path = scratch["ours." + variant.Format];
        string name = $"ours, {variant}";
        OptionMap options = OptionSyntax.ParsePairs(variant.Kind.Options);
        var request = new CreateRequest { Flags = LuksImages.Flags(writable: true) };
        long length = variant.Length;
        if (variant.IsStream)
        {
            await using (Graph raw = await TestGraph.Opener.OpenAsync(
                TestGraph.ForFile(EmptyFile(model, length), "raw"), TestGraph.Writable))
            {
                await FillAsync(raw.Root, model + ".twin", variant, seed, name);
            }

            await using Graph source = await TestGraph.Opener.OpenAsync(TestGraph.ForFile(model, "raw"), TestGraph.ReadOnly);
            await new ImageMaker(TestGraph.Registry).CreateFromAsync(variant.Format, path, options, source.Root, request);
            return new QemuImage(path, variant.Format, length, ShapeVariant.Islands(length));
        }

        if (variant.Format == "luks")
        {
            await LuksImages.CreateAsync(path, "luks", $"{LuksImages.Cheap},{variant.Kind.Options}", length);
        }
        else
        {
            options.Set("size", length.ToString());
            await new ImageMaker(TestGraph.Registry).CreateAsync(variant.Format, path, options, request);
        }

        await using Graph graph = await LuksImages.OpenAsync(path, writable: true, variant.Format);
        length = graph.Root.Length; // VHDs are rounded up to cylinders.
        await FillAsync(graph.Root, model, variant, seed, name);
        return new QemuImage(path, variant.Format, length, ShapeVariant.Islands(length));
    }

    /// <summary>How qemu's programs are told of an image.</summary>
    public static string[] Source(Scratch scratch, string format, string path) => format == "luks"
        ? ["--object", Secret(scratch), "--image-opts", LuksImages.Source(format, path)]
        : ["-f", format, path];

    /// <summary>
    /// qemu measures for a second or two how fast the machine derives keys, and the header does not tell a length: so it is
    /// made once. The payload is a hole, which is noise when it is decrypted, the same for everybody.
    /// </summary>
    private static void CopyLuks(Scratch scratch, ShapeVariant variant, string path)
    {
        byte[] header = s_luksHeaders.GetOrAdd(variant.Kind.Options, options =>
        {
            string made = scratch["header"];
            LuksImages.RetryImg(
                "create", "-q", "-f", "luks", "--object", Secret(scratch), "-o",
                $"key-secret={LuksImages.SecretId},iter-time=10,{options}", made, "0");
            return File.ReadAllBytes(made);
        });
        File.WriteAllBytes(path, header);
        using FileStream file = File.OpenWrite(path);
        file.SetLength(header.Length + variant.Length);
    }

    private static string Secret(Scratch scratch)
    {
        File.WriteAllText(scratch["key"], LuksImages.Passphrase);
        return $"secret,id={LuksImages.SecretId},file={scratch["key"]}";
    }

    private static string EmptyFile(string path, long length)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        RandomAccess.SetLength(file, length);
        return path;
    }

    private static List<string> Commands(
        Scratch scratch, ShapeVariant variant, IReadOnlyList<(long Start, long End)> islands, int seed)
    {
        var random = new Random(seed);
        string[] patterns = QemuImages.MakePatterns(scratch, random);
        string Write(long at, long count) => $"write -q -s {patterns[random.Next(patterns.Length)]} {at} {count}";
        long length = variant.Length;
        switch (variant.Shape)
        {
            case Shape.Empty:
                return [];
            case Shape.Sparse:
                return [.. Places(length, variant.Kind.Unit).Select(place => Write(place.At, place.Count))];
            case Shape.Full:
                var all = new List<string>();
                for (long at = 0; at < length; at += 1 << 20)
                {
                    all.Add(Write(at, Math.Min(1 << 20, length - at)));
                }

                return all;
            default:
                int fine = variant.Format == "qcow" ? variant.Kind.Unit : Math.Clamp(variant.Kind.Unit / 2, 64 << 10, 256 << 10);
                return QemuImages.Writes(random, fine, length, islands, patterns, mayCompress: variant.Format == "qcow");
        }
    }

    /// <summary>The first sector, two on both sides of a border between units, and the last one.</summary>
    private static (long At, int Count)[] Places(long length, int unit) =>
        [(length - 512, 512), ((length / 2 / unit * unit) - 512, 1024), (0, 512)];

    private static async Task FillAsync(BlockNode disk, string model, ShapeVariant variant, int seed, string name)
    {
        EmptyFile(model, disk.Length);
        if (variant.Format == "luks")
        {
            File.WriteAllBytes(model, await LuksImages.ReadAllAsync(disk)); // Nobody made it zero.
        }

        if (variant.Shape == Shape.Fragmented)
        {
            using var twin = new ModelDisk(disk, model, ShapeVariant.Islands(disk.Length), seed, name);
            for (int i = 0; i < Steps; i++)
            {
                await twin.StepAsync();
            }

            return;
        }

        using SafeFileHandle file = File.OpenHandle(model, FileMode.Open, FileAccess.ReadWrite);
        async Task WriteAsync(long at, int count)
        {
            byte[] bytes = TestPattern.Make(count, at, seed);
            await disk.WriteAsync(at, bytes);
            RandomAccess.Write(file, bytes, at);
        }

        if (variant.Shape == Shape.Sparse)
        {
            foreach ((long at, int count) in Places(disk.Length, variant.Kind.Unit))
            {
                await WriteAsync(at, count);
            }
        }
        else if (variant.Shape == Shape.Full)
        {
            var random = new Random(seed);
            for (long at = 0; at < disk.Length;)
            {
                int count = (int)Math.Min(random.Next(1, 3 << 20), disk.Length - at);
                await WriteAsync(at, count);
                at += count;
            }
        }
    }
}
