using System.Collections.Concurrent;
using System.IO.Compression;
using System.Security.Cryptography;

namespace ImageMount.TestSupport;

/// <summary>Makes compressed files and archives, with the tools that people make them with.</summary>
public static class Pack
{
    private static readonly ConcurrentDictionary<string, byte[]> s_packed = new();
    private static int s_made;

    /// <summary>Packs a file into a new one beside it; gives its path.</summary>
    /// <param name="path">File to pack; stays.</param>
    /// <param name="tool">gzip, xz, bzip2, zstd.</param>
    /// <param name="ending">Ending that the tool adds: ".gz".</param>
    /// <param name="arguments">More arguments.</param>
    public static string With(string path, string tool, string ending, params string[] arguments)
    {
        string packed = $"{path}.{Interlocked.Increment(ref s_made)}{ending}";
        File.WriteAllBytes(packed, Bytes(File.ReadAllBytes(path), tool, ending, arguments));
        return packed;
    }

    /// <summary>Packs bytes. The tool is run once for the same bytes, however many tests want them.</summary>
    public static byte[] Bytes(byte[] content, string tool, string ending, params string[] arguments)
    {
        Require.Tool(tool);
        string key = $"{tool} {string.Join(' ', arguments)} {Convert.ToHexString(SHA256.HashData(content))}";
        return s_packed.GetOrAdd(key, _ =>
        {
            using var dir = new TempDir();
            string path = dir.Write("content", content);
            Qemu.Succeed(tool, [.. arguments, "-k", "-f", path]);
            return File.ReadAllBytes(path + ending);
        });
    }

    /// <summary>Packs pieces of a file one by one, and writes them one after the other, as parallel tools do.</summary>
    public static string Pieces(string path, int pieceSize, string tool, string ending, params string[] arguments)
    {
        byte[] content = File.ReadAllBytes(path);
        string packed = $"{path}.{Interlocked.Increment(ref s_made)}{ending}";
        using FileStream output = File.Create(packed);
        foreach (byte[] piece in content.Chunk(pieceSize))
        {
            output.Write(Bytes(piece, tool, ending, arguments));
        }

        return packed;
    }

    /// <summary>Makes an archive of files in one folder.</summary>
    public static string Tar(string archive, string folder, string[] names, params string[] arguments)
    {
        Qemu.Succeed("tar", [.. arguments, "-cf", archive, "-C", folder, .. names]);
        return archive;
    }

    /// <summary>
    /// A gzip file of BGZF blocks: every member says how long it is (SAMv1, 4.1), an empty one ends it.
    /// </summary>
    public static byte[] Bgzf(ReadOnlySpan<byte> content, int blockSize = 0xff00)
    {
        using var output = new MemoryStream();
        for (int at = 0; at <= content.Length; at += blockSize)
        {
            bool isLast = at + blockSize > content.Length;
            ReadOnlySpan<byte> block = content.Slice(at, Math.Min(blockSize, content.Length - at));
            WriteBgzf(output, block);
            if (isLast && block.Length > 0)
            {
                WriteBgzf(output, default);
            }
        }

        return output.ToArray();
    }

    /// <summary>A gzip member made by the runtime.</summary>
    public static byte[] Gzip(ReadOnlySpan<byte> content, CompressionLevel level = CompressionLevel.Optimal)
    {
        using var output = new MemoryStream();
        using (var gzip = new GZipStream(output, level, leaveOpen: true))
        {
            gzip.Write(content);
        }

        return output.ToArray();
    }

    private static void WriteBgzf(MemoryStream output, ReadOnlySpan<byte> block)
    {
        byte[] member = block.IsEmpty ? [.. new byte[10], 3, 0, .. new byte[8]] : Gzip(block);
        ReadOnlySpan<byte> deflated = member.AsSpan(10..^8);
        int size = 18 + deflated.Length + 8;
        output.Write([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, (byte)'B', (byte)'C', 2, 0]);
        output.Write([(byte)(size - 1), (byte)((size - 1) >> 8)]);
        output.Write(deflated);
        output.Write(member.AsSpan(member.Length - 8));
    }
}
