using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Fuzz.Tests.Hostile;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// Damaged images that qemu and we both open: where both read a sector, both read the same. Where one of us refuses
/// and the other does not, the reason is one of <see cref="KnownDifferences"/>.
/// </summary>
public sealed class PeerComparisonTests(ITestOutputHelper output)
{
    private const int Cases = 50;
    private const long MaxLength = 32 << 20;

    public static TheoryData<string> Formats => HostileFormats.NamesWithPeer;

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task Damaged_image_reads_as_qemu_reads_it(string formatName)
    {
        PeerTool.Require();
        int seed = FuzzScale.Seed(7001);
        HostileFormat format = HostileFormats.Get(formatName);
        var counts = new Dictionary<string, int>();
        var failures = new List<string>();
        foreach (SeedImage image in format.Seeds().Where(seed => seed.HasPeer))
        {
            var random = new Random(seed);
            for (int i = 0; i < FuzzScale.Of(Cases / (image.Bytes.Length >= 4 << 20 ? 2 : 1)); i++)
            {
                byte[] bytes = (byte[])image.Bytes.Clone();
                string what = Mutation.Apply(format, bytes, random);
                if (i % 2 == 0)
                {
                    format.Seal?.Invoke(bytes);
                }

                string outcome = await CompareAsync(format, image, bytes);
                string kind = outcome.Split(':')[0];
                counts[kind] = counts.GetValueOrDefault(kind) + 1;
                if (kind == "DIFFERENT")
                {
                    failures.Add($"{image.Name} case {i} seed {seed}: {what}: {outcome}");
                }
                else if (kind is "only qemu" or "only we")
                {
                    string? reason = KnownDifferences.Reason(format.Name, outcome);
                    output.WriteLine($"{outcome} [{reason}]: {image.Name} case {i}: {what}");
                    if (reason is null)
                    {
                        failures.Add($"no known reason: {outcome}: {image.Name} case {i} seed {seed}: {what}");
                    }
                }
            }
        }

        output.WriteLine(string.Join(", ", counts.Select(pair => $"{pair.Key}: {pair.Value}")));
        Assert.True(failures.Count == 0, string.Join("\n", failures.Take(20)));
        Assert.True(
            format.EveryByteIsChecked || counts.GetValueOrDefault("same") > 0, "no damaged image was read by both");
    }

    private static string? WhyPeerRefuses(HostileFormat format, string path, string flat)
    {
        if (format.Peer is { } other)
        {
            return other(path, flat) ? null : "its own tool refuses it";
        }

        string key = flat + ".key";
        File.WriteAllText(key, LuksImages.Passphrase);
        string[] source = format.PeerOptions is { } options
            ? ["--object", $"secret,id={LuksImages.SecretId},file={key}", "--image-opts",
                $"if={options},file.filename={path}"]
            : ["-f", format.Driver.Name, $"if={path}"];
        PeerResult peer = PeerTool.TryImg(
            ["dd", "-U", "-O", "raw", .. source, "bs=1M", $"count={MaxLength >> 20}", $"of={flat}"]);
        return peer.ExitCode == 0 ? null : peer.Error.Trim();
    }

    private static async Task<string> CompareAsync(HostileFormat format, SeedImage image, byte[] bytes)
    {
        using var scratch = new Scratch();
        string path = scratch["damaged"];
        File.WriteAllBytes(path, bytes);
        // References are bare names or full paths of a folder that is gone: only the former can be found again.
        foreach ((string name, byte[] content) in image.Companions.Where(c => !c.Key.Contains('/')))
        {
            File.WriteAllBytes(scratch[name], content);
        }

        if (image.Wrapper is not null)
        {
            path = scratch["wrapper"];
            File.WriteAllText(path, image.Wrapper);
        }

        long length = 0;
        string? refusal = null;
        bool warned = false;
        byte[] ours = [];
        try
        {
            await using Graph graph = await TestGraph.Opener.OpenAsync(
                TestGraph.ForFile(path, format.Driver.Name), LuksImages.Flags());
            length = graph.Root.Length;
            warned = graph.Warnings.Count > 0;
            if (length > MaxLength)
            {
                return "large";
            }

            ours = new byte[length];
            await graph.Root.ReadAsync(0, ours);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.LimitExceeded && format.PeerOptions is not null)
        {
            return "limit"; // Iterations that qemu would sit out.
        }
        catch (BlockException e)
        {
            refusal = e.Describe();
        }

        if (WhyPeerRefuses(format, path, scratch["flat"]) is { } why)
        {
            return refusal is null ? $"only we: {why}" : "both refuse";
        }

        if (refusal is not null)
        {
            return $"only qemu: {refusal}";
        }

        if (warned)
        {
            return "warned"; // We say that it is damaged, and may have used a redundant copy, which qemu never reads.
        }

        byte[] theirs = File.ReadAllBytes(scratch["flat"]);
        // qemu counts in sectors, and rounds an odd end up or down.
        int common = Math.Min(ours.Length, theirs.Length);
        if (Math.Abs((long)ours.Length - theirs.Length) >= 512)
        {
            return $"DIFFERENT: length {ours.Length}, qemu {theirs.Length}";
        }

        int same = ours.AsSpan(0, common).CommonPrefixLength(theirs.AsSpan(0, common));
        return same == common ? "same" : $"DIFFERENT: from byte 0x{same:x} on";
    }
}
