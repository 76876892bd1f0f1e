using System.Runtime.InteropServices;

namespace ImageMount.TestSupport;

/// <summary>Bytes that tell where they belong: every 8 bytes depend on their offset and on a seed.</summary>
public static class TestPattern
{
    /// <summary>
    /// Fills a buffer with what belongs at <paramref name="offset"/>, whatever the offset's alignment.
    /// </summary>
    public static void Fill(Span<byte> buffer, long offset, long seed)
    {
        Span<byte> word = stackalloc byte[8];
        int at = 0;
        while (at < buffer.Length)
        {
            long position = offset + at;
            ulong value = Mix((ulong)(position >> 3) ^ Mix((ulong)seed));
            MemoryMarshal.Write(word, in value);
            int skip = (int)(position & 7);
            int count = Math.Min(8 - skip, buffer.Length - at);
            word.Slice(skip, count).CopyTo(buffer[at..]);
            at += count;
        }
    }

    /// <summary>A new array with what belongs at <paramref name="offset"/>.</summary>
    public static byte[] Make(int count, long offset, long seed)
    {
        var bytes = new byte[count];
        Fill(bytes, offset, seed);
        return bytes;
    }

    /// <summary>Compares, and says where the first difference is and what is there.</summary>
    public static void AssertEqual(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, long offset, string context)
    {
        Assert.Equal(expected.Length, actual.Length);
        int same = expected.CommonPrefixLength(actual);
        if (same < expected.Length)
        {
            int shown = Math.Min(16, expected.Length - same);
            Assert.Fail(
                $"{context}: first difference at 0x{offset + same:x} (0x{same:x} into {expected.Length} bytes): "
                + $"expected {Convert.ToHexString(expected.Slice(same, shown))}, "
                + $"found {Convert.ToHexString(actual.Slice(same, shown))}");
        }
    }

    // The finaliser of SplitMix64 (public domain constants).
    private static ulong Mix(ulong x)
    {
        x += 0x9E3779B97F4A7C15;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }
}
