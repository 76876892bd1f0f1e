namespace ImageMount.TestSupport.Conformance;

/// <summary>
/// What every driver must do, whatever it is. A driver joins by deriving a class in Conformance.Tests that says how an
/// image with a given content is made; all tests are inherited. Each test uses a fresh image.
/// </summary>
public abstract class ConformanceSuite : ConformanceReading
{
    [SkippableFact]
    public async Task Write_between_edges()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        IReadOnlyList<int> edges = Edges(f.Content.Length);
        for (int i = 0; i < edges.Count; i++)
        {
            for (int j = i + 1; j < edges.Count; j += 3)
            {
                await WriteAsync(f, edges[i], edges[j] - edges[i], (i * 1000) + j);
            }
        }

        await AssertContentAsync(f.Disk, f.Content, "after writes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Write_single_bytes_around_units()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        foreach (int edge in Edges(f.Content.Length))
        {
            if (edge < f.Content.Length)
            {
                await WriteAsync(f, edge, 1, 77);
            }
        }

        await AssertContentAsync(f.Disk, f.Content, "after writes of single bytes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Write_with_fua_reads_back()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        TestPattern.Fill(f.Content.AsSpan(100, 5000), 100, 5);
        await f.Disk.WriteAsync(100, f.Content.AsMemory(100, 5000), WriteFlags.Fua);
        await AssertContentAsync(f.Disk, f.Content, "after a FUA write");
    }

    [SkippableTheory]
    [InlineData(ZeroFlags.None)]
    [InlineData(ZeroFlags.MayUnmap)]
    [InlineData(ZeroFlags.Fua)]
    public async Task Zero_between_edges(ZeroFlags flags)
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        IReadOnlyList<int> edges = Edges(f.Content.Length);
        for (int i = 0; i + 3 < edges.Count; i += 3)
        {
            int count = edges[i + 2] - edges[i];
            f.Content.AsSpan(edges[i], count).Clear();
            await f.Disk.ZeroAsync(edges[i], count, flags);
        }

        await AssertContentAsync(f.Disk, f.Content, "after zeroing pieces");
        await AssertMapAgreesAsync(f);
        await WriteAsync(f, Unit / 2, Unit, 9);
        f.Content.AsSpan().Clear();
        await f.Disk.ZeroAsync(0, f.Disk.Length, flags);
        await AssertContentAsync(f.Disk, f.Content, "after zeroing everything");
        await WriteAsync(f, Unit - 3, 7, 10);
        await AssertContentAsync(f.Disk, f.Content, "after writing into zeroes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Discarded_ranges_are_zero_or_as_before_and_stay_so()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        IReadOnlyList<int> edges = Edges(f.Content.Length);
        for (int i = 0; i + 4 < edges.Count; i += 2)
        {
            int at = edges[i];
            int count = edges[i + 4] - at;
            await f.Disk.DiscardAsync(at, count);
            var found = new byte[count];
            await f.Disk.ReadAsync(at, found);
            for (int b = 0; b < count; b++)
            {
                Assert.True(found[b] == 0 || found[b] == f.Content[at + b], $"byte 0x{at + b:x} is 0x{found[b]:x2}");
            }

            found.CopyTo(f.Content, at);
        }

        await AssertContentAsync(f.Disk, f.Content, "after discards");
        await AssertMapAgreesAsync(f);
        await WriteAsync(f, Math.Max(0, Unit - 700), 1500, 21);
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Map_agrees_with_reads_after_changes()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        await WriteAsync(f, Unit + 1234, 999, 31);
        f.Content.AsSpan(0, Unit).Clear();
        await f.Disk.ZeroAsync(0, Unit);
        await AssertMapAgreesAsync(f);
    }

    [SkippableFact]
    public async Task Flush_on_a_clean_disk_works()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        await f.Disk.FlushAsync();
        await WriteAsync(f, 0, 512, 41);
        await f.Disk.FlushAsync();
        await f.Disk.FlushAsync();
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Parallel_writes_to_disjoint_units()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        int part = f.Content.Length / 8;
        await InParallelAsync(8, async worker =>
        {
            for (int i = 0; i < 16; i++)
            {
                int count = part / 16;
                await WriteAsync(f, (worker * part) + (i * count), count, (worker * 100) + i);
            }
        });
        await AssertContentAsync(f.Disk, f.Content, "after parallel writes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Parallel_writes_to_the_same_unit()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        const int Workers = 8;

        // Interleaved pieces of odd size: every piece shares its sectors and its unit with other workers' pieces.
        int piece = 331;
        int pieces = Math.Min(Unit * 2, f.Content.Length) / piece;
        await InParallelAsync(Workers, async worker =>
        {
            for (int i = worker; i < pieces; i += Workers)
            {
                await WriteAsync(f, i * piece, piece, 500 + i);
                if (i % 37 == worker)
                {
                    await f.Disk.FlushAsync();
                }
            }
        });
        await AssertContentAsync(f.Disk, f.Content, "after interleaved writes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Parallel_writes_zeroes_and_discards_on_neighbours()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        const int Workers = 6;
        int piece = Math.Max(512, Unit / 4) + 19;
        int pieces = f.Content.Length / piece;
        await InParallelAsync(Workers, async worker =>
        {
            for (int i = worker; i < pieces; i += Workers)
            {
                int at = i * piece;
                switch (i % 3)
                {
                    case 0:
                        await WriteAsync(f, at, piece, 900 + i);
                        break;
                    case 1:
                        f.Content.AsSpan(at, piece).Clear();
                        await f.Disk.ZeroAsync(at, piece, ZeroFlags.MayUnmap);
                        break;
                    default:
                        await WriteAsync(f, at, piece, 700 + i);
                        await f.Disk.DiscardAsync(at, piece);
                        await f.Disk.ReadAsync(at, f.Content.AsMemory(at, piece));
                        break;
                }
            }
        });
        await AssertContentAsync(f.Disk, f.Content, "after parallel changes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Parallel_overlapping_writes_leave_nothing_but_written_bytes()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        int at = Unit - 512;
        for (int round = 0; round < 20; round++)
        {
            byte[][] candidates = [.. Enumerable.Range(0, 4).Select(i => TestPattern.Make(512, at, (round * 10) + i))];
            await InParallelAsync(4, worker => f.Disk.WriteAsync(at, candidates[worker]).AsTask());
            var found = new byte[512];
            await f.Disk.ReadAsync(at, found);

            // Which of them is open, even byte by byte (debug builds cut transfers short); nothing else may appear.
            for (int i = 0; i < found.Length; i++)
            {
                byte[] allowed = [.. candidates.Select(candidate => candidate[i])];
                Assert.Contains(found[i], allowed);
            }

            found.CopyTo(f.Content, at);
        }

        await AssertContentAsync(f.Disk, f.Content, "after overlapping writes");
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Cancelled_write_leaves_old_or_new_bytes()
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        await using Fixture f = await StartAsync();
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        byte[] written = TestPattern.Make(Unit, 0, 61);
        byte[] handed = (byte[])written.Clone();
        try
        {
            await f.Disk.WriteAsync(0, handed, WriteFlags.None, cancelled.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or BlockException { Kind: BlockErrorKind.Cancelled })
        {
            // Refused, done, or done in part: all are fine.
        }

        handed.AsSpan().Fill(0xEE); // Whoever still reads the buffer now writes these bytes.
        await f.Disk.DrainAsync();
        var found = new byte[Unit];
        await f.Disk.ReadAsync(0, found);
        for (int i = 0; i < Unit; i++)
        {
            Assert.True(found[i] == f.Content[i] || found[i] == written[i], $"byte 0x{i:x} is neither old nor new");
        }

        found.CopyTo(f.Content, 0);
        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Resize_grows_with_zeroes_and_shrinks()
    {
        if (!IsResizable || await RefusesWritesAsync())
        {
            return; // Resize_that_is_not_possible_… is the test for this driver.
        }

        await using Fixture f = await StartAsync();
        Assert.NotEqual(BlockCapabilities.None, f.Disk.Capabilities & BlockCapabilities.Resize);
        foreach (int length in (int[])
        [
            DiskLength + (2 * Unit), DiskLength + (2 * Unit) + LengthGranularity, Unit + LengthGranularity, DiskLength,
        ])
        {
            int rounded = length / LengthGranularity * LengthGranularity;
            if (rounded < f.Disk.Length && !CanShrink)
            {
                Assert.False(await f.Disk.TryResizeAsync(rounded));
                await AssertContentAsync(f.Disk, f.Content, $"after refusing to shrink to 0x{rounded:x}");
                continue;
            }

            Assert.True(await f.Disk.TryResizeAsync(rounded));
            byte[] content = f.Content;
            Array.Resize(ref content, rounded);
            f.Content = content;
            await AssertContentAsync(f.Disk, f.Content, $"after resizing to 0x{rounded:x}");
            await WriteAsync(f, rounded - 600, 600, length);
            await AssertContentAsync(f.Disk, f.Content, $"after writing at the end of 0x{rounded:x}");
        }

        await ReopenAndCompareAsync(f);
    }

    [SkippableFact]
    public async Task Resize_that_is_not_possible_is_false_and_changes_nothing()
    {
        if (IsResizable || await RefusesWritesAsync())
        {
            return; // Resize_grows_… is the test for this driver.
        }

        await using Fixture f = await StartAsync();
        Assert.False(await f.Disk.TryResizeAsync(f.Disk.Length + LengthGranularity));
        await AssertContentAsync(f.Disk, f.Content, "after a refused resize");
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_operations_agree_with_a_byte_array(int seed)
    {
        if (await RefusesWritesAsync())
        {
            return;
        }

        using var dir = new TempDir();
        byte[] content = MakeContent(seed);
        string raw = dir.Write("content.raw", content);
        int images = 0;
        await new ModelTest
        {
            Initial = content,
            Seed = seed,
            Unit = Unit,
            Steps = 150,
            Largest = Unit * 2,
            CanReopen = IsPersistent,
            ResizeGranularity = IsResizable ? LengthGranularity : 0,
            CreateAsync = () =>
            {
                images++;
                OptionMap image = Create(raw, new TempDir(dir, $"image{images}"));
                return new(flags => OpenAsync(image, flags));
            },
            ComparesAfterReopen = IsPersistent,
        }.RunAsync();
    }

    /// <summary>
    /// True for a driver that only reads; then what the test is about must be refused, and leave the bytes alone.
    /// </summary>
    private async Task<bool> RefusesWritesAsync()
    {
        if (IsWritable)
        {
            return false;
        }

        await using Fixture f = await StartAsync();
        Assert.False(f.Disk.CanWrite);
        foreach (Func<ValueTask> change in (Func<ValueTask>[])
        [
            () => f.Disk.WriteAsync(0, new byte[512]),
            () => f.Disk.ZeroAsync(0, 512),
            () => f.Disk.DiscardAsync(0, 512),
            async () => await f.Disk.TryResizeAsync(f.Disk.Length + LengthGranularity),
        ])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await change());
            Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        }

        await AssertContentAsync(f.Disk, f.Content, "after refused writes");
        return true;
    }

    /// <summary>Writes a pattern to disk and to the expected content.</summary>
    protected static async Task WriteAsync(Fixture f, int at, int count, long seed)
    {
        TestPattern.Fill(f.Content.AsSpan(at, count), at, seed);
        await f.Disk.WriteAsync(at, f.Content.AsMemory(at, count));
    }

    /// <summary>Closes, opens for reading, compares everything; where the driver keeps its changes.</summary>
    protected async Task ReopenAndCompareAsync(Fixture f)
    {
        await AssertContentAsync(f.Disk, f.Content, "before closing");
        if (!IsPersistent)
        {
            return;
        }

        await f.Graph.CloseAsync();
        f.Graph = await OpenAsync(f.Image, TestGraph.ReadOnly);
        await AssertContentAsync(f.Disk, f.Content, "after reopening");
        if (f.Graph.Image.Device is ICheckable checkable)
        {
            CheckReport report = await checkable.CheckAsync(CancellationToken.None);
            Assert.True(
                report.Corruptions == 0 && report.CheckErrors == 0, string.Join("\n", report.Problems));
        }
    }

    private static Task InParallelAsync(int workers, Func<int, Task> work) =>
        Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(() => work(worker))));
}
