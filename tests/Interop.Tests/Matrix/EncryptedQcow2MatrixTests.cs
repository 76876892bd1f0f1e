using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>
/// The encrypt.* options of qcow2 with qemu-img: every pair of values occurs in an image that we make, qemu makes and
/// the other reads and writes.
/// </summary>
public sealed class EncryptedQcow2MatrixTests(ITestOutputHelper output)
{
    private const int Size = (192 << 10) + (5 * 512);
    private const int Seed = 3004;

    private static readonly string[][] Dimensions =
    [
        ["aes-256", "aes-192", "serpent-128", "twofish-256", "cast5-128"],
        ["xts", "cbc", "ctr", "ecb"],
        ["plain64", "plain", "essiv"],
        ["", ",encrypt.ivgen-hash-alg=sha256", ",encrypt.ivgen-hash-alg=sha1"],
        ["sha256", "sha1", "sha224", "sha384", "sha512", "ripemd160"],
        ["10", "25"],
        ["64k", "4k"],
    ];

    [SkippableFact]
    public async Task Every_pair_of_options_is_made_by_either_and_read_and_written_by_the_other()
    {
        Require.Tool("qemu-img");
        List<int[]> rows = Covering.Pairs([.. Dimensions.Select(values => values.Length)], CanBe, Seed);
        await Parallel.ForEachAsync(
            rows.Index(), new ParallelOptions { MaxDegreeOfParallelism = 3 },
            async (row, _) => await CompareAsync(row.Item, isOurs: row.Index % 2 == 0));
        output.WriteLine($"{rows.Count} images");
    }

    /// <summary>Another hash than sha256 gives no key for essiv, and matters to nothing else.</summary>
    private static bool CanBe(int[] row)
    {
        (string cipher, string mode, string vectors) = (Value(row, 0), Value(row, 1), Value(row, 2));
        return LuksMatrixTests.CanBe(cipher, mode, vectors) && LuksMatrixTests.QemuCan(cipher, mode)
            && (vectors != "essiv" || row[3] != 2);
    }

    private static string Value(int[] row, int dimension) => Dimensions[dimension][row[dimension]];

    private static async Task CompareAsync(int[] row, bool isOurs)
    {
        using var dir = new TempDir();
        string options = $"encrypt.format=luks,encrypt.key-secret={LuksImages.SecretId},cluster_size={Value(row, 6)},"
            + $"encrypt.cipher-alg={Value(row, 0)},encrypt.cipher-mode={Value(row, 1)},encrypt.ivgen-alg={Value(row, 2)}"
            + $"{Value(row, 3)},encrypt.hash-alg={Value(row, 4)},encrypt.iter-time={Value(row, 5)}";
        byte[] content = TestPattern.Make(Size, 0, 1);
        content.AsSpan(70_000, 60_000).Clear();
        string path = dir.File("disk.qcow2");
        if (isOurs)
        {
            await LuksImages.CreateAsync(path, "qcow2", options, content);
        }
        else
        {
            LuksImages.Convert(dir, "raw", dir.Write("content.raw", content), "qcow2", path, options);
        }

        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            await LuksImages.AssertContentAsync(graph.Root, content, options);
            TestPattern.Fill(content.AsSpan(3333, 9000), 0, 2);
            await graph.Root.WriteAsync(3333, content.AsMemory(3333, 9000));
        }

        LuksImages.CheckByQemu(dir, path);
        TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "qcow2", path), 0, $"{options}, by qemu");
    }
}
