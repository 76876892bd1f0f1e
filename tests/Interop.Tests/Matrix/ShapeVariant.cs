namespace ImageMount.Interop.Tests.Matrix;

/// <summary>How much of a disk is stored, and in which order.</summary>
public enum Shape
{
    /// <summary>Nothing was ever written: no unit exists, perhaps no table.</summary>
    Empty,

    /// <summary>A few sectors, the first and the last among them; nearly every unit is missing.</summary>
    Sparse,

    /// <summary>Every byte, in order: no unit is missing, nor is there a gap to find one by.</summary>
    Full,

    /// <summary>Every kind of run beside every other, in disorder.</summary>
    Fragmented,
}

/// <summary>How long a disk is.</summary>
public enum Extent
{
    /// <summary>A multiple of the format's unit: the last one is whole.</summary>
    Exact,

    /// <summary>Some sectors more: the last unit is cut off.</summary>
    Odd,

    /// <summary>More than one table, one cached piece of it, or one file holds.</summary>
    Large,
}

/// <summary>What a format has to be tried with.</summary>
/// <param name="Options">As qemu-img's -o has them.</param>
/// <param name="Unit">What is allocated at once, bytes.</param>
/// <param name="Large">A length that is large for it, bytes.</param>
public readonly record struct ShapeKind(string Options, int Unit, long Large);

/// <summary>One image of the matrix: a format with options, how long it is, and what is stored in it.</summary>
public sealed record ShapeVariant(string Format, ShapeKind Kind, Shape Shape, Extent Extent)
{
    /// <summary>Disks up to this length are looked at as a whole, and may be full.</summary>
    private const long Whole = 72 << 20;

    private const int KiB = 1 << 10;
    private const int MiB = 1 << 20;
    private const long GiB = 1 << 30;

    private static readonly Dictionary<string, ShapeKind[]> s_kinds = new()
    {
        // A cached piece of a table has 1024 entries.
        ["vdi"] = [new("", MiB, 1100L * MiB + 512), new("static=on", MiB, 40 * MiB + 512)],
        ["vpc"] =
        [
            new("", 2 * MiB, 2200L * MiB), new("force_size=on", 2 * MiB, 2200L * MiB + 512),
            new("subformat=fixed", 2 * MiB, 40 * MiB), new("subformat=fixed,force_size=on", 2 * MiB, 40 * MiB + 512),
        ],
        ["parallels"] = [new("", MiB, 1100L * MiB + 512), new("cluster_size=64k", 64 * KiB, 66 * MiB + 512)],

        // One table of them reaches 4 MiB, 2 GiB and 2 MiB.
        ["qed"] = [new("cluster_size=4k,table_size=2", 4 * KiB, 13 * MiB + 512), new("", 64 * KiB, 5 * GiB + 512)],
        ["qcow"] = [new("", 4 * KiB, 13 * MiB + 512)],

        // After each 4 GiB stands the entry of a bitmap between those of the blocks, if they are of 1 MiB.
        ["vhdx"] =
        [
            new("block_size=1M", MiB, 5 * GiB + 512),
            new("block_size=2M,block_state_zero=off,log_size=2M", 2 * MiB, 300 * MiB + 512),
            new("subformat=fixed,block_size=1M", MiB, 40 * MiB + 512), new("", 8 * MiB, 300L * MiB + 512),
        ],

        // A grain table reaches 32 MiB, a file of the split ones 2 GiB.
        ["vmdk"] =
        [
            new("subformat=monolithicSparse", 64 * KiB, 66 * MiB + 512),
            new("subformat=monolithicSparse,zeroed_grain=on,compat6=on", 64 * KiB, 66 * MiB + 512),
            new("subformat=monolithicFlat", 64 * KiB, 40 * MiB + 512),
            new("subformat=twoGbMaxExtentSparse", 64 * KiB, 5 * GiB + 512),
            new("subformat=twoGbMaxExtentFlat", 64 * KiB, 5 * GiB + 512),
            new("subformat=streamOptimized", 64 * KiB, 66 * MiB + 512),
        ],
        ["luks"] =
        [
            new("cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64", 4 * KiB, 20 * MiB + 512),
            new("cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", 4 * KiB, 9 * MiB + 512),
        ],
    };

    /// <summary>Every format of the matrix.</summary>
    public static TheoryData<string> Formats => [.. s_kinds.Keys];

    /// <summary>Virtual size, bytes; a VHD may round it up.</summary>
    public long Length => Extent switch
    {
        Extent.Large => Kind.Large,
        Extent.Odd => Small + (3 * 512),
        _ => Small,
    };

    /// <summary>Streams are made in one go, by conversion.</summary>
    public bool IsStream => Kind.Options.Contains("streamOptimized", StringComparison.Ordinal);

    private long Small => Math.Max(2 * Kind.Unit, Format == "luks" ? MiB : 4 * MiB);

    /// <summary>Few variants of a format that show each option with each shape and size, and each shape with each size.</summary>
    public static IReadOnlyList<ShapeVariant> Selection(string format, int seed)
    {
        ShapeKind[] kinds = s_kinds[format];
        int[] sizes = [kinds.Length, Enum.GetValues<Shape>().Length, Enum.GetValues<Extent>().Length];
        ShapeVariant From(int[] row) => new(format, kinds[row[0]], (Shape)row[1], (Extent)row[2]);
        return [.. Covering.Pairs(sizes, row => From(row).IsPossible, seed).Select(From)];
    }

    /// <summary>Ranges to look at in a disk of this length.</summary>
    public static IReadOnlyList<(long Start, long End)> Islands(long length) => length <= Whole
        ? [(0, length)]
        : [(0, 3 * MiB), ((length / 2) - MiB, (length / 2) + MiB), (length - (3 * MiB), length)];

    public override string ToString() => $"{Format} {Kind.Options} {Shape} {Extent} ({Length})";

    /// <summary>Nobody wants to fill gigabytes.</summary>
    private bool IsPossible => Shape != Shape.Full || Length <= Whole;
}
