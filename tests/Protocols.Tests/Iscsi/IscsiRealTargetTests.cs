using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>Against tgtd.</summary>
public sealed class IscsiRealTargetTests(ITestOutputHelper output) : IscsiTestBase
{
    [SkippableTheory]
    [InlineData(512, 1)]
    [InlineData(4096, 2)]
    public async Task Random_reads_and_writes_agree_with_a_model_and_with_the_file(int blockSize, int seed)
    {
        output.WriteLine($"seed {seed}");
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        IscsiServer server = Keep(new IscsiServer()).Add(
            file, 1, "--blocksize", blockSize.ToString(System.Globalization.CultureInfo.InvariantCulture));
        var random = new Random(seed);
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            await AssertContentAsync(graph.Root, model, "at first");
            for (int i = 0; i < 300; i++)
            {
                int at = random.Next(model.Length);
                int count = random.Next(1, Math.Min(random.Next(2) == 0 ? 6000 : 300_000, model.Length - at + 1));
                switch (random.Next(8))
                {
                    case 0:
                        await graph.Root.FlushAsync();
                        break;
                    case 1:
                        model.AsSpan(at, count).Clear();
                        await graph.Root.ZeroAsync(at, count, random.Next(2) == 0 ? ZeroFlags.MayUnmap : ZeroFlags.None);
                        break;
                    case 2 or 3 or 4:
                        var found = new byte[count];
                        await graph.Root.ReadAsync(at, found);
                        TestPattern.AssertEqual(model.AsSpan(at, count), found, at, $"seed {seed}, {i}");
                        break;
                    default:
                        TestPattern.Fill(model.AsSpan(at, count), at, random.Next());
                        await graph.Root.WriteAsync(
                            at, model.AsMemory(at, count), random.Next(4) == 0 ? WriteFlags.Fua : WriteFlags.None);
                        break;
                }
            }

            await graph.Root.FlushAsync();
            await AssertContentAsync(graph.Root, model, "at the end");
        }

        byte[] written = await File.ReadAllBytesAsync(file);
        TestPattern.AssertEqual(model, written, 0, "the file");
    }

    [SkippableFact]
    public async Task Many_requests_at_once_get_the_right_bytes()
    {
        byte[] model = TestPattern.Make(16 << 20, 0, 3);
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", model));
        await using Graph graph = await OpenAsync(server.Uri());
        await Task.WhenAll(Enumerable.Range(0, 400).Select(i => Task.Run(async () =>
        {
            int at = i * 7919 % (model.Length / 512 - 300) * 512;
            var found = new byte[(i % 300 + 1) * 512];
            await graph.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(model.AsSpan(at, found.Length), found, at, $"request {i}");
        }))).WaitAsync(Limit);
    }

    [SkippableFact]
    public async Task What_we_write_is_what_qemu_reads()
    {
        byte[] model = MakeContent(5);
        string file = Dir.Write("disk.raw", new byte[model.Length]);
        IscsiServer server = Keep(new IscsiServer()).Add(file);
        string local = Dir.Write("local.raw", model);
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            await graph.Root.WriteAsync(0, model);
            await graph.Root.FlushAsync();
            Qemu.Img("compare", "-f", "raw", "-F", "raw", local, server.Uri());
        }

        Qemu.Io("raw", server.Uri(), "write -P 9 4k 64k");
        model.AsSpan(4096, 65536).Fill(9);
        await using Graph again = await OpenAsync(server.Uri());
        await AssertContentAsync(again.Root, model, "what qemu wrote");
    }
}
