using System.IO.Compression;
using System.Runtime.InteropServices;

namespace ImageMount.TestSupport.Images;

/// <summary>Compresses a unit by the programs' own libraries.</summary>
public static class UnitEncoders
{
    /// <summary>A zlib stream.</summary>
    public static byte[] Zlib(ReadOnlySpan<byte> plain)
    {
        using var stored = new MemoryStream();
        using (var stream = new ZLibStream(stored, CompressionLevel.Optimal, leaveOpen: true))
        {
            stream.Write(plain);
        }

        return stored.ToArray();
    }

    /// <summary>A bzip2 stream.</summary>
    public static byte[] Bzip2(ReadOnlySpan<byte> plain)
    {
        byte[] stored = new byte[plain.Length + plain.Length / 50 + 1000];
        uint length = (uint)stored.Length;
        Assert.Equal(0, BZ2_bzBuffToBuffCompress(stored, ref length, plain.ToArray(), (uint)plain.Length, 9, 0, 0));
        return stored[..(int)length];
    }

    /// <summary>An .xz stream with a CRC-32, as macOS makes them.</summary>
    public static byte[] Xz(ReadOnlySpan<byte> plain)
    {
        const int CheckCrc32 = 1;
        byte[] stored = new byte[plain.Length + plain.Length / 50 + 1000];
        nuint length = 0;
        Assert.Equal(0, lzma_easy_buffer_encode(
            1, CheckCrc32, 0, plain.ToArray(), (nuint)plain.Length, stored, ref length, (nuint)stored.Length));
        return stored[..(int)length];
    }

    [DllImport("libbz2.so.1.0")]
    private static extern int BZ2_bzBuffToBuffCompress(
        byte[] target, ref uint targetLength, byte[] source, uint sourceLength, int blockSize, int verbosity, int effort);

    [DllImport("liblzma.so.5")]
    private static extern int lzma_easy_buffer_encode(
        uint preset, int check, nint allocator, byte[] source, nuint sourceLength, byte[] target,
        ref nuint targetPosition, nuint targetLength);
}
