using System.Globalization;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>One combination of qcow2 options.</summary>
public sealed record Qcow2Variant
{
    private static readonly string[] Compats = ["1.1", "0.10"];
    private static readonly int[] ClusterSizes = [64 << 10, 512, 4 << 10, 1 << 20, 2 << 20];
    private static readonly int[] RefcountWidths = [16, 1, 2, 4, 8, 32, 64];
    private static readonly string[] Preallocations = ["off", "metadata", "falloc", "full"];
    private static readonly string[] DataFiles = ["none", "file", "raw"];
    private static readonly string[] Backings =
        ["none", "raw-short", "raw-long", "qcow2-short", "qcow2-long", "vmdk-short", "vmdk-long"];

    private static readonly int[] Dimensions =
        [Compats.Length, ClusterSizes.Length, RefcountWidths.Length, 2, 2, 2, Preallocations.Length, DataFiles.Length,
         Backings.Length, 3, 2, 2];

    public string Compat { get; init; } = "1.1";

    public int ClusterSize { get; init; } = 64 << 10;

    public int RefcountBits { get; init; } = 16;

    public bool LazyRefcounts { get; init; }

    public bool ExtendedL2 { get; init; }

    public string Compression { get; init; } = "zlib";

    public string Preallocation { get; init; } = "off";

    /// <summary>none, file (data_file) or raw (data_file_raw).</summary>
    public string DataFile { get; init; } = "none";

    /// <summary>none, or the format of the parent and whether it is shorter or longer than the image.</summary>
    public string Backing { get; init; } = "none";

    public int Snapshots { get; init; }

    public bool Bitmaps { get; init; }

    /// <summary>The virtual size is no multiple of the cluster size.</summary>
    public bool OddSize { get; init; }

    /// <summary>
    /// The combinations to test: pairwise by default. IMAGEMOUNT_MATRIX=all takes every valid one (hours),
    /// IMAGEMOUNT_MATRIX=N takes N of them at random.
    /// </summary>
    public static IReadOnlyList<Qcow2Variant> Selection(int seed)
    {
        string wanted = Environment.GetEnvironmentVariable("IMAGEMOUNT_MATRIX") ?? "pairs";
        static bool IsValid(int[] row) => From(row).IsPossible;
        if (wanted == "all")
        {
            return [.. Covering.All(Dimensions, IsValid).Select(From)];
        }

        if (int.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out int count))
        {
            int[][] all = [.. Covering.All(Dimensions, IsValid)];
            new Random(seed).Shuffle(all);
            return [.. all.Take(count).Select(From)];
        }

        return [.. Covering.Pairs(Dimensions, IsValid, seed).Select(From)];
    }

    /// <summary>What qemu-img create accepts together.</summary>
    private bool IsPossible
    {
        get
        {
            bool old = Compat == "0.10";
            if (old && (RefcountBits != 16 || LazyRefcounts || ExtendedL2 || Compression != "zlib"
                        || DataFile != "none" || Bitmaps))
            {
                return false;
            }

            if (ExtendedL2 && ClusterSize < 16 << 10)
            {
                return false;
            }

            if (DataFile == "raw" && Backing != "none")
            {
                return false;
            }

            if (Preallocation != "off" && Backing != "none" && !ExtendedL2)
            {
                return false;
            }

            // A snapshot shares clusters: refcount 1 is not enough; snapshots with a data file are not allowed.
            return Snapshots == 0 || (RefcountBits > 1 && DataFile == "none");
        }
    }

    /// <summary>For -o of qemu-img create.</summary>
    public string CreateOptions(string dataFile)
    {
        var options = new List<string>
        {
            $"compat={Compat}", $"cluster_size={ClusterSize}", $"refcount_bits={RefcountBits}",
            $"preallocation={Preallocation}",
        };
        if (Compat != "0.10")
        {
            options.Add($"lazy_refcounts={(LazyRefcounts ? "on" : "off")}");
            options.Add($"extended_l2={(ExtendedL2 ? "on" : "off")}");
            options.Add($"compression_type={Compression}");
        }

        if (DataFile != "none")
        {
            options.Add($"data_file={dataFile}");
            options.Add($"data_file_raw={(DataFile == "raw" ? "on" : "off")}");
        }

        return string.Join(',', options);
    }

    public override string ToString() =>
        $"compat={Compat} cluster={ClusterSize} refbits={RefcountBits} lazy={LazyRefcounts} extl2={ExtendedL2} "
        + $"{Compression} prealloc={Preallocation} data={DataFile} backing={Backing} snapshots={Snapshots} "
        + $"bitmaps={Bitmaps} odd={OddSize}";

    private static Qcow2Variant From(int[] row) => new()
    {
        Compat = Compats[row[0]],
        ClusterSize = ClusterSizes[row[1]],
        RefcountBits = RefcountWidths[row[2]],
        LazyRefcounts = row[3] == 1,
        ExtendedL2 = row[4] == 1,
        Compression = row[5] == 1 ? "zstd" : "zlib",
        Preallocation = Preallocations[row[6]],
        DataFile = DataFiles[row[7]],
        Backing = Backings[row[8]],
        Snapshots = row[9],
        Bitmaps = row[10] == 1,
        OddSize = row[11] == 1,
    };
}
