namespace ImageMount.TestSupport.Conformance;

/// <summary>What a driver says of itself to the conformance suite, and what the suite's tests share.</summary>
public abstract class ConformanceBase
{
    /// <summary>Name of the driver under test; the test of completeness looks for it.</summary>
    public abstract string Driver { get; }

    /// <summary>True when guest data can be written.</summary>
    protected virtual bool IsWritable => true;

    /// <summary>True when the length can be changed.</summary>
    protected virtual bool IsResizable => false;

    /// <summary>False for a format that only grows.</summary>
    protected virtual bool CanShrink => true;

    /// <summary>Disks are a multiple of this long, bytes.</summary>
    protected virtual int LengthGranularity => 512;

    /// <summary>The format's unit (cluster, grain), bytes: offsets around its multiples are tried.</summary>
    protected virtual int Unit => 64 << 10;

    /// <summary>True when what is written is there after closing and opening again.</summary>
    protected virtual bool IsPersistent => true;

    /// <summary>Length of the disks, bytes; no multiple of the unit.</summary>
    protected virtual int DiskLength => (3 * 64 << 10) + (5 * 512);

    /// <summary>The driver's own name for its node, in case the root is another one. Null: the root.</summary>
    protected virtual string? ExpectedRootDriver => Driver;

    /// <summary>
    /// Makes an image whose disk holds the bytes of <paramref name="rawFile"/>, in <paramref name="dir"/>, and says how
    /// it is opened. Called again for the same content gives another image.
    /// </summary>
    protected abstract OptionMap Create(string rawFile, TempDir dir);

    /// <summary>Opens an image; for drivers that need more than options.</summary>
    protected virtual ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        TestGraph.Opener.OpenAsync(image, flags);

    /// <summary>
    /// A disk that holds every kind of neighbourhood: data, zeroes of whole units, zeroes inside units, and an end
    /// that is no multiple of anything.
    /// </summary>
    protected byte[] MakeContent(long seed)
    {
        int length = DiskLength / LengthGranularity * LengthGranularity;
        byte[] content = TestPattern.Make(length, 0, seed);
        for (int unit = 0; unit * Unit < length; unit++)
        {
            int at = unit * Unit;
            int count = Math.Min(Unit, length - at);
            switch (unit % 4)
            {
                case 1:
                    content.AsSpan(at, count).Clear();
                    break;
                case 3:
                    content.AsSpan(at + (count / 4), count / 2).Clear();
                    break;
                default:
                    break;
            }
        }

        return content;
    }

    /// <summary>A fresh image with its expected content.</summary>
    protected async Task<Fixture> StartAsync(long seed = 1, bool writable = true)
    {
        var dir = new TempDir();
        try
        {
            byte[] content = MakeContent(seed);
            OptionMap image = Create(dir.Write("content.raw", content), dir);
            Graph graph = await OpenAsync(image, new OpenFlags { Writable = writable && IsWritable });
            return new Fixture(dir, image, graph, content);
        }
        catch
        {
            dir.Dispose();
            throw;
        }
    }

    /// <summary>Compares the whole disk.</summary>
    protected static async Task AssertContentAsync(BlockNode disk, byte[] expected, string context)
    {
        Assert.Equal(expected.Length, disk.Length);
        var found = new byte[expected.Length];
        await disk.ReadAsync(0, found);
        TestPattern.AssertEqual(expected, found, 0, context);
    }

    /// <summary>Offsets where mistakes live, in order: around units, sectors, and the end.</summary>
    protected IReadOnlyList<int> Edges(int length)
    {
        var edges = new SortedSet<int>();
        foreach (int anchor in (int[])[0, 512, 4096, Unit / 2, Unit, 2 * Unit, 3 * Unit, length])
        {
            foreach (int delta in (int[])[-512, -1, 0, 1, 511])
            {
                if (anchor + delta >= 0 && anchor + delta <= length)
                {
                    edges.Add(anchor + delta);
                }
            }
        }

        return [.. edges];
    }

    /// <summary>An open image and what its disk holds.</summary>
    protected sealed class Fixture(TempDir dir, OptionMap image, Graph graph, byte[] content) : IAsyncDisposable
    {
        /// <summary>Where the image's files are.</summary>
        public TempDir Dir { get; } = dir;

        /// <summary>How it is opened.</summary>
        public OptionMap Image { get; } = image;

        /// <summary>The open graph.</summary>
        public Graph Graph { get; set; } = graph;

        /// <summary>The disk.</summary>
        public BlockNode Disk => Graph.Root;

        /// <summary>The expected content; tests keep it up to date.</summary>
        public byte[] Content { get; set; } = content;

        /// <inheritdoc/>
        public async ValueTask DisposeAsync()
        {
            try
            {
                await Graph.CloseAsync();
            }
            finally
            {
                Dir.Dispose();
            }
        }
    }
}
