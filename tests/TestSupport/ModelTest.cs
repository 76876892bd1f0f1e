using System.Text;

namespace ImageMount.TestSupport;

/// <summary>What a step of a model test does.</summary>
public enum ModelStepKind
{
    /// <summary>Reads and compares.</summary>
    Read,

    /// <summary>Writes a pattern.</summary>
    Write,

    /// <summary>Writes a pattern with FUA.</summary>
    WriteFua,

    /// <summary>Zeroes.</summary>
    Zero,

    /// <summary>Zeroes, and space may be freed.</summary>
    ZeroUnmap,

    /// <summary>Discards: zeroes or as before.</summary>
    Discard,

    /// <summary>Maps a range and compares zero extents with the model.</summary>
    Map,

    /// <summary>Flushes.</summary>
    Flush,

    /// <summary>Closes and opens again.</summary>
    Reopen,

    /// <summary>Changes the length.</summary>
    Resize,
}

/// <summary>One step; offset and count are bytes, clipped to the disk when it runs.</summary>
public readonly record struct ModelStep(ModelStepKind Kind, long Offset, long Count, long Stamp)
{
    /// <inheritdoc/>
    public override string ToString() => Kind switch
    {
        ModelStepKind.Flush or ModelStepKind.Reopen => Kind.ToString(),
        ModelStepKind.Resize => $"Resize 0x{Count:x}",
        _ => $"{Kind} 0x{Offset:x}+0x{Count:x}",
    };
}

/// <summary>
/// Random operations on a disk, compared with the same operations on a byte array. A failure prints the seed and the
/// shortest list of steps that was found to fail as well.
/// </summary>
public sealed class ModelTest
{
    /// <summary>
    /// Makes a fresh image with <see cref="Initial"/> in it and says how to open it; called once a run.
    /// </summary>
    public required Func<ValueTask<Func<OpenFlags, ValueTask<Graph>>>> CreateAsync { get; init; }

    /// <summary>The disk's content at the start.</summary>
    public required byte[] Initial { get; init; }

    /// <summary>Seed of the steps.</summary>
    public required int Seed { get; init; }

    /// <summary>Number of steps.</summary>
    public int Steps { get; init; } = 300;

    /// <summary>Longest request, bytes.</summary>
    public int Largest { get; init; } = 256 << 10;

    /// <summary>Offsets cluster around multiples of this (the format's unit), where mistakes live.</summary>
    public int Unit { get; init; } = 64 << 10;

    /// <summary>Lengths and offsets are multiples of this in resizes.</summary>
    public int ResizeGranularity { get; init; }

    /// <summary>True when the image may be closed and opened again.</summary>
    public bool CanReopen { get; init; } = true;

    /// <summary>True when what was written is there after closing and opening again.</summary>
    public bool ComparesAfterReopen { get; init; } = true;

    /// <summary>Flags for opening.</summary>
    public OpenFlags Flags { get; init; } = TestGraph.Writable;

    /// <summary>Runs the test.</summary>
    public async Task RunAsync()
    {
        List<ModelStep> steps = Generate();
        string? failure = await TryAsync(steps).ConfigureAwait(false);
        if (failure is null)
        {
            return;
        }

        (steps, failure) = await ShrinkAsync(steps, failure).ConfigureAwait(false);
        var text = new StringBuilder($"{failure}\nseed {Seed}; {steps.Count} steps that show it:\n");
        foreach (ModelStep step in steps)
        {
            text.Append("  ").Append(step).Append('\n');
        }

        Assert.Fail(text.ToString());
    }

    private List<ModelStep> Generate()
    {
        var random = new Random(Seed);
        var steps = new List<ModelStep>();
        long length = Initial.Length;
        for (int i = 0; i < Steps; i++)
        {
            ModelStepKind kind = random.Next(100) switch
            {
                < 35 => ModelStepKind.Write,
                < 40 => ModelStepKind.WriteFua,
                < 65 => ModelStepKind.Read,
                < 72 => ModelStepKind.Zero,
                < 79 => ModelStepKind.ZeroUnmap,
                < 86 => ModelStepKind.Discard,
                < 90 => ModelStepKind.Map,
                < 94 => ModelStepKind.Flush,
                < 97 => CanReopen ? ModelStepKind.Reopen : ModelStepKind.Flush,
                _ => ResizeGranularity > 0 ? ModelStepKind.Resize : ModelStepKind.Read,
            };
            long offset = Near(random, length);
            long count = random.Next(4) == 0 ? random.Next(1, 1024) : random.Next(1, Largest);
            if (random.Next(4) == 0)
            {
                long end = Math.Max(offset + 1, Near(random, length));
                count = Math.Min(end - offset, Largest);
            }

            if (kind == ModelStepKind.Resize)
            {
                count = random.NextInt64(1, (2L * Initial.Length / ResizeGranularity) + 1) * ResizeGranularity;
                length = count;
            }

            steps.Add(new ModelStep(kind, offset, count, ((long)Seed << 20) + i));
        }

        return steps;
    }

    private long Near(Random random, long length)
    {
        long at = random.NextInt64(0, Math.Max(1, length));
        return random.Next(3) switch
        {
            0 => at,
            1 => at / Unit * Unit,
            _ => Math.Max(0, (at / Unit * Unit) + random.Next(-513, 514)),
        };
    }

    /// <summary>
    /// Leaves out ever smaller parts while the rest still fails; bounded, because every try is a whole run.
    /// </summary>
    private async Task<(List<ModelStep> Steps, string Failure)> ShrinkAsync(List<ModelStep> steps, string failure)
    {
        int budget = 300;
        for (int part = Math.Max(1, steps.Count / 2); budget > 0; part /= 2)
        {
            for (int at = 0; at < steps.Count && budget > 0; budget--)
            {
                var fewer = new List<ModelStep>(steps);
                fewer.RemoveRange(at, Math.Min(part, fewer.Count - at));
                if (await TryAsync(fewer).ConfigureAwait(false) is { } stillFails)
                {
                    (steps, failure) = (fewer, stillFails);
                }
                else
                {
                    at += part;
                }
            }

            if (part <= 1)
            {
                break;
            }
        }

        return (steps, failure);
    }

    /// <summary>Runs steps on a fresh image; null when all is well.</summary>
    private async Task<string?> TryAsync(List<ModelStep> steps)
    {
        Func<OpenFlags, ValueTask<Graph>> open = await CreateAsync().ConfigureAwait(false);
        byte[] model = (byte[])Initial.Clone();
        Graph graph = await open(Flags).ConfigureAwait(false);
        ModelStep current = default;
        try
        {
            foreach (ModelStep step in steps)
            {
                current = step;
                if (step.Kind == ModelStepKind.Reopen)
                {
                    await graph.CloseAsync().ConfigureAwait(false);
                    graph = await open(Flags).ConfigureAwait(false);
                }
                else
                {
                    model = await StepAsync(graph.Root, model, step).ConfigureAwait(false);
                }
            }

            current = new ModelStep(ModelStepKind.Read, 0, model.Length, 0);
            await CompareAsync(graph.Root, model, 0, model.Length, "at the end").ConfigureAwait(false);
            await CheckAsync(graph).ConfigureAwait(false);
            await graph.CloseAsync().ConfigureAwait(false);
            if (!ComparesAfterReopen)
            {
                return null;
            }

            graph = await open(Flags with { Writable = false }).ConfigureAwait(false);
            await CompareAsync(graph.Root, model, 0, model.Length, "after reopening").ConfigureAwait(false);
            return null;
        }
        catch (Exception e)
        {
            string what = e is BlockException block ? block.Describe() : e.ToString();
            return $"{current}: {what}";
        }
        finally
        {
            await CloseAfterFailureAsync(graph).ConfigureAwait(false);
        }
    }

    private static async ValueTask CloseAfterFailureAsync(Graph graph)
    {
        try
        {
            await graph.CloseAsync().ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The failure of the step is the one to report.
        }
    }

    private static async Task CheckAsync(Graph graph)
    {
        if (graph.Image.Device is ICheckable checkable)
        {
            await graph.Root.FlushAsync().ConfigureAwait(false);
            CheckReport report = await checkable.CheckAsync(CancellationToken.None).ConfigureAwait(false);
            Assert.True(
                report.Corruptions == 0 && report.CheckErrors == 0,
                "the check finds: " + string.Join("; ", report.Problems.Take(5)));
        }
    }

    private static async Task<byte[]> StepAsync(BlockNode disk, byte[] model, ModelStep step)
    {
        long offset = Math.Min(step.Offset, model.Length);
        int count = (int)Math.Min(step.Count, model.Length - offset);
        int at = (int)offset;
        switch (step.Kind)
        {
            case ModelStepKind.Write or ModelStepKind.WriteFua:
                TestPattern.Fill(model.AsSpan(at, count), offset, step.Stamp);
                WriteFlags flags = step.Kind == ModelStepKind.WriteFua ? WriteFlags.Fua : WriteFlags.None;
                await disk.WriteAsync(offset, model.AsMemory(at, count), flags).ConfigureAwait(false);
                break;
            case ModelStepKind.Zero or ModelStepKind.ZeroUnmap:
                model.AsSpan(at, count).Clear();
                ZeroFlags zero = step.Kind == ModelStepKind.ZeroUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None;
                await disk.ZeroAsync(offset, count, zero).ConfigureAwait(false);
                break;
            case ModelStepKind.Discard:
                await disk.DiscardAsync(offset, count).ConfigureAwait(false);
                await AdoptDiscardedAsync(disk, model, at, count).ConfigureAwait(false);
                break;
            case ModelStepKind.Flush:
                await disk.FlushAsync().ConfigureAwait(false);
                break;
            case ModelStepKind.Map:
                await CompareMapAsync(disk, model, offset, offset + count).ConfigureAwait(false);
                break;
            case ModelStepKind.Resize:
                if (await disk.TryResizeAsync(step.Count).ConfigureAwait(false))
                {
                    Array.Resize(ref model, (int)step.Count);
                }

                Assert.Equal(model.Length, disk.Length);
                break;
            default:
                await CompareAsync(disk, model, offset, count, "read").ConfigureAwait(false);
                break;
        }

        return model;
    }

    private static async Task CompareAsync(BlockNode disk, byte[] model, long offset, int count, string context)
    {
        var found = new byte[count];
        await disk.ReadAsync(offset, found).ConfigureAwait(false);
        TestPattern.AssertEqual(model.AsSpan((int)offset, count), found, offset, context);
    }

    /// <summary>Each byte of a discarded range is as before or zero; whichever it is, it stays so.</summary>
    private static async Task AdoptDiscardedAsync(BlockNode disk, byte[] model, int at, int count)
    {
        var found = new byte[count];
        await disk.ReadAsync(at, found).ConfigureAwait(false);
        for (int i = 0; i < count; i++)
        {
            Assert.True(
                found[i] == 0 || found[i] == model[at + i],
                $"the discarded byte at 0x{at + i:x} is 0x{found[i]:x2}, neither zero nor 0x{model[at + i]:x2}");
        }

        found.CopyTo(model, at);
    }

    private static async Task CompareMapAsync(BlockNode disk, byte[] model, long offset, long end)
    {
        while (offset < end)
        {
            BlockExtent extent = await disk.MapAsync(offset, end - offset).ConfigureAwait(false);
            if (extent.IsZero)
            {
                int inside = model.AsSpan((int)offset, (int)extent.Length).IndexOfAnyExcept((byte)0);
                Assert.True(inside < 0, $"mapped as zero, but 0x{offset + inside:x} is not");
            }

            offset += extent.Length;
        }
    }
}
