using System.Buffers.Binary;
using System.Text;

namespace ImageMount.TestSupport;

/// <summary>
/// Puts extents of ESX together byte by byte, because no tool at hand makes them: COWD by VMware's technote, SESPARSE by
/// what is known of it. Hostile on purpose: grains in disorder, tables between them, every kind of entry beside every
/// other.
/// </summary>
public static class EsxImages
{
    public const int CowdTableEntries = 4096;
    public const int SeSparseGrain = 4096;
    public const int SeSparseTables = 16 * Sector;
    private const int Sector = 512;

    /// <summary>A descriptor with one extent.</summary>
    public static string Descriptor(string createType, string extent, string more = "parentCID=ffffffff") =>
        $"# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=0badcafe\n{more}\ncreateType=\"{createType}\"\n\n"
        + $"# Extent description\n{extent}\n\n# The Disk Data Base\n#DDB\nddb.adapterType = \"lsilogic\"\n";

    /// <summary>Writes a descriptor and its COWD extent beside it; the path of the descriptor.</summary>
    public static string WriteCowd(TempDir dir, string name, byte[] content, int seed, int grain = Sector)
    {
        dir.Write($"{name}-delta.vmdk", Cowd(content, seed, grain));
        return dir.Write($"{name}.vmdk", Encoding.UTF8.GetBytes(Descriptor(
            "vmfsSparse", $"RW {content.Length / Sector} VMFSSPARSE \"{name}-delta.vmdk\"")));
    }

    /// <summary>A COWD extent. Grains of zeroes are left out, as are those equal to the parent's.</summary>
    public static byte[] Cowd(
        byte[] content, int seed, int grain = Sector, byte[]? parent = null, uint flags = 3, string parentName = "")
    {
        int coverage = grain * CowdTableEntries;
        int tables = (content.Length + coverage - 1) / coverage;
        int grains = (content.Length + grain - 1) / grain;
        var file = new byte[(8 * Sector) + (tables * ((CowdTableEntries * 4) + 4)) + content.Length + grain + Sector];
        int free = Round(2048 + (tables * 4), Sector);
        int[] order = [.. Enumerable.Range(0, grains)];
        new Random(seed).Shuffle(order);
        foreach (int index in order)
        {
            ReadOnlySpan<byte> bytes = Part(content, index * grain, grain);
            if (parent is null ? !bytes.ContainsAnyExcept((byte)0) : bytes.SequenceEqual(Part(parent, index * grain, grain)))
            {
                continue;
            }

            int directory = 2048 + (index / CowdTableEntries * 4);
            if (Get32(file, directory) == 0)
            {
                Put32(file, directory, (uint)(free / Sector));
                free += CowdTableEntries * 4;
            }

            int entry = ((int)Get32(file, directory) * Sector) + (index % CowdTableEntries * 4);
            Put32(file, entry, (uint)(free / Sector));
            bytes.CopyTo(file.AsSpan(free));
            free += grain;
        }

        "COWD"u8.CopyTo(file);
        uint[] header =
            [1, flags, (uint)(content.Length / Sector), (uint)(grain / Sector), 4, (uint)tables, (uint)(free / Sector)];
        for (int i = 0; i < header.Length; i++)
        {
            Put32(file, 4 + (4 * i), header[i]);
        }

        Encoding.UTF8.GetBytes(parentName).CopyTo(file, 32);
        return file[..free];
    }

    /// <summary>
    /// A SESPARSE extent. Grains of zeroes are "zero", "unmapped" or, without a parent, left out; those equal to the
    /// parent's are left out or repeated.
    /// </summary>
    public static byte[] SeSparse(byte[] content, int seed, byte[]? parent = null)
    {
        const int Coverage = SeSparseGrain * 4096;
        const int Directory = 8 * Sector;
        var random = new Random(seed);
        int tables = (content.Length + Coverage - 1) / Coverage;
        int grains = (content.Length + SeSparseGrain - 1) / SeSparseGrain;
        int first = Round(SeSparseTables + (tables * 64 * Sector), SeSparseGrain);
        var file = new byte[first + (grains * SeSparseGrain)];
        int[] tableOrder = [.. Enumerable.Range(0, tables)];
        int[] places = [.. Enumerable.Range(0, grains)];
        random.Shuffle(tableOrder);
        random.Shuffle(places);
        for (int i = 0; i < grains; i++)
        {
            ReadOnlySpan<byte> bytes = Part(content, i * SeSparseGrain, SeSparseGrain);
            bool zero = !bytes.ContainsAnyExcept((byte)0);
            bool same = parent is null ? zero : bytes.SequenceEqual(Part(parent, i * SeSparseGrain, SeSparseGrain));

            // With even seeds neighbours lie together, so that runs have to be joined.
            ulong place = (ulong)(seed % 2 == 0 ? i : places[i]);
            ulong entry = same && random.Next(2) == 0 ? 0
                : zero ? (random.Next(2) == 0 ? 2UL << 60 : (1UL << 60) | (place >> 12))
                : (3UL << 60) | ((place & 0xfff) << 48) | (place >> 12);
            if (entry >> 60 == 3)
            {
                bytes.CopyTo(file.AsSpan(first + ((int)place * SeSparseGrain)));
            }

            if (entry != 0)
            {
                int table = i / 4096;
                Put64(file, Directory + (8 * table), (0x1000_0000UL << 32) | (uint)tableOrder[table]);
                Put64(file, SeSparseTables + (tableOrder[table] * 64 * Sector) + (i % 4096 * 8), entry);
            }
        }

        ulong[] header =
        [
            0xcafebabe, 0x2_0000_0001, (ulong)content.Length / Sector, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 1, 3, 1, 8, 4,
            SeSparseTables / Sector, (ulong)tables * 64, 12, 1, 13, 1, (ulong)first / Sector, (ulong)grains * 8,
        ];
        for (int i = 0; i < header.Length; i++)
        {
            Put64(file, 8 * i, header[i]);
        }

        Put64(file, Sector, 0xcafecafe);
        return file;
    }

    private static ReadOnlySpan<byte> Part(byte[] content, int at, int count) =>
        at >= content.Length ? [] : content.AsSpan(at, Math.Min(count, content.Length - at));

    private static int Round(int value, int unit) => (value + unit - 1) / unit * unit;

    private static uint Get32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));

    private static void Put32(byte[] bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);

    private static void Put64(byte[] bytes, int at, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), value);
}
