using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>
/// Whatever is in the folder: no wrong byte, no exception but BlockException; and the cache works again afterwards.
/// </summary>
public sealed class CacheDamageTests : CacheTestBase
{
    private const int Size = 400_003;

    /// <summary>
    /// A power cut leaves any sectors written and others not; what was not written is a hole. Every place of a file is
    /// written once, so that is every state that a cut can leave, whatever the order in which the host wrote.
    /// </summary>
    [Fact]
    public async Task A_power_cut_leaves_what_is_right_or_thrown_away()
    {
        const int Seed = 20261127;
        var random = new Random(Seed);
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        string file = Files.Single();
        byte[] whole = File.ReadAllBytes(file);
        int sectors = whole.Length / 512;
        int dataSectors = (int)(new CacheLayout(Size).IndexOffset / 512);
        for (int state = 0; state < 120; state++)
        {
            byte[] left = (byte[])whole.Clone();
            int cut = random.Next(dataSectors);
            for (int sector = 0; sector < sectors; sector++)
            {
                bool isLost = (state % 4) switch
                {
                    0 => random.Next(2) == 0, // any
                    1 => sector >= cut && sector < dataSectors, // marks are older than bytes
                    2 => sector >= dataSectors && sector < sectors - 8 && random.Next(2) == 0, // the other way round
                    _ => random.Next(50) == 0,
                };
                if (isLost)
                {
                    left.AsSpan(sector * 512, 512).Clear();
                }
            }

            await AssertRecoversAsync(server, file, left, $"seed {Seed}, state {state}");
        }
    }

    /// <summary>The process is killed: what it has written so far is there, and nothing else.</summary>
    [Fact]
    public async Task A_killed_process_leaves_a_cache_that_is_right_at_every_step()
    {
        var server = new FakeServer(MakeContent(Size));
        var left = new List<byte[]>();
        server.Before = (_, _) =>
        {
            left.AddRange(Files.Select(File.ReadAllBytes));
            return Task.CompletedTask;
        };
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            for (int at = 0; at < Size; at += 30_000)
            {
                await ReadAsync(graph.Root, at, Math.Min(100, Size - at));
            }
        }

        server.Before = (_, _) => Task.CompletedTask;
        Assert.True(left.Count >= 6, $"{left.Count} states");
        string file = Files.Single();
        for (int i = 0; i < left.Count; i++)
        {
            await AssertRecoversAsync(server, file, left[i], $"state {i}");
        }
    }

    [Fact]
    public async Task Bits_that_flip_anywhere_are_noticed()
    {
        const int Seed = 99;
        var random = new Random(Seed);
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        string file = Files.Single();
        byte[] whole = File.ReadAllBytes(file);
        var layout = new CacheLayout(Size);
        (long From, long End)[] parts =
            [(0, Size), (layout.IndexOffset, layout.HeaderOffset), (layout.HeaderOffset, layout.FileSize)];
        for (int i = 0; i < 90; i++)
        {
            byte[] damaged = (byte[])whole.Clone();
            (long from, long end) = parts[i % 3];
            for (int flips = random.Next(1, 5); flips > 0; flips--)
            {
                damaged[random.NextInt64(from, end)] ^= (byte)(1 << random.Next(8));
            }

            await AssertRecoversAsync(server, file, damaged, $"seed {Seed}, round {i}");
        }
    }

    [Fact]
    public async Task Files_that_are_too_short_too_long_or_nonsense_are_made_anew()
    {
        const int Seed = 5;
        var random = new Random(Seed);
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        string file = Files.Single();
        byte[] whole = File.ReadAllBytes(file);
        var noise = new byte[20_000];
        random.NextBytes(noise);
        byte[][] files =
        [
            [], new byte[1], new byte[4096], new byte[whole.Length], noise, whole[..^1], whole[..^4096], whole[4096..],
            [.. whole, .. new byte[4096]], [.. whole, .. whole[^4096..]], whole[^8192..],
            .. Enumerable.Range(0, 20).Select(_ => whole[..random.Next(whole.Length)]),
        ];
        for (int i = 0; i < files.Length; i++)
        {
            await AssertRecoversAsync(server, file, files[i], $"seed {Seed}, file {i}");
        }
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(-1L)]
    [InlineData(1L)]
    [InlineData(long.MaxValue)]
    [InlineData(CacheLayout.MaxLength + 1)]
    [InlineData(Size + 1L)]
    public async Task A_last_page_that_lies_with_a_right_checksum_is_not_believed(long length)
    {
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        string file = Files.Single();
        byte[] whole = File.ReadAllBytes(file);
        CacheHeader honest = CacheHeader.Parse(whole.AsSpan(whole.Length - 4096))!;
        (honest with { Length = length }).ToPage().CopyTo(whole, whole.Length - 4096);
        await AssertRecoversAsync(server, file, whole, "another length");
        (honest with { Key = CacheHeader.KeyOf("another") }).ToPage().CopyTo(whole, whole.Length - 4096);
        await AssertRecoversAsync(server, file, whole, "another disk");
    }

    [Fact]
    public async Task Links_folders_pipes_and_files_that_others_can_read_are_not_used()
    {
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        string file = Files.Single();
        byte[] whole = File.ReadAllBytes(file);
        string elsewhere = Path.Join(Path.GetDirectoryName(Folder), "elsewhere");

        File.Move(file, elsewhere);
        File.CreateSymbolicLink(file, elsewhere);
        await AssertReadsAsync(server, "a link");
        Assert.Null(new FileInfo(file).LinkTarget);
        Assert.Equal(whole, File.ReadAllBytes(elsewhere));

        File.Delete(file);
        Assert.Equal(0, Interop.SysMkfifo.Make(file, 0x180));
        await AssertReadsAsync(server, "a pipe");

        SetMode(file, 0x184);
        server.Reads.Clear();
        await AssertReadsAsync(server, "a file that others can read");
        Assert.NotEmpty(server.Reads);
        Assert.Equal(0x180, ModeOf(file));

        File.Delete(file);
        Directory.CreateDirectory(Path.Join(file, "full"));
        await AssertReadsAsync(server, "a folder");
        server.IsAway = true;
        await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync(Layer()));
    }

    [Fact]
    public async Task A_file_that_is_cut_off_or_removed_while_it_is_in_use_does_no_harm()
    {
        var server = new FakeServer(MakeContent(Size));
        await WarmAsync(server);
        await using Graph graph = await server.OpenAsync(Layer());
        await AssertSameAsync(server.Content, graph);
        using (FileStream file = File.Open(Files.Single(), FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.SetLength(1000);
        }

        await AssertSameAsync(server.Content, graph, "cut off");
        await AssertSameAsync(server.Content, graph, "cut off, again");
        Directory.Delete(Folder, recursive: true);
        await AssertSameAsync(server.Content, graph, "removed");
    }

    /// <summary>Puts bytes into the place of a file, and reads everything with and without the server.</summary>
    private async Task AssertRecoversAsync(FakeServer server, string file, byte[] left, string context)
    {
        File.WriteAllBytes(file, left);
        SetMode(file, 0x180);
        server.IsAway = true;
        try
        {
            await using Graph alone = await server.OpenAsync(Layer());
            for (int at = 0; at < Size; at += 16384)
            {
                int count = Math.Min(16384, Size - at);
                try
                {
                    await AssertPartAsync(server.Content, alone.Root, at, count, $"{context}, alone");
                }
                catch (BlockException e)
                {
                    Assert.Contains("not in the remote cache", e.Message, StringComparison.Ordinal);
                }
            }
        }
        catch (BlockException e)
        {
            Assert.Equal("the server is away", e.Message); // Nothing of it was of any use.
        }

        server.IsAway = false;
        if (!File.Exists(file))
        {
            File.WriteAllBytes(file, left); // It was removed; with the server there, it shall be made anew.
        }

        await AssertReadsAsync(server, context);
        await AssertReadsAsync(server, $"{context}, the zeroes");
        server.Reads.Clear();
        await AssertReadsAsync(server, $"{context}, again");
        Assert.True(server.Reads.IsEmpty, $"{context}: what was repaired is read from the server again");
    }

    private async Task AssertReadsAsync(FakeServer server, string context)
    {
        await using Graph graph = await server.OpenAsync(Layer());
        var random = new Random(1);
        for (int i = 0; i < 5; i++)
        {
            int offset = random.Next(Size - 1);
            int count = Math.Min(random.Next(1, 50_000), Size - offset);
            await AssertPartAsync(server.Content, graph.Root, offset, count, context);
        }

        await AssertSameAsync(server.Content, graph, context);
    }
}
