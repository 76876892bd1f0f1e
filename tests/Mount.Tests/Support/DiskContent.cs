namespace ImageMount.Mount.Tests.Support;

/// <summary>Disks to test with, and how to compare them.</summary>
public static class DiskContent
{
    /// <summary>
    /// Fills a disk with stretches of random bytes, text that compresses, and nothing, of odd lengths in odd places, so
    /// that every kind of run stands beside every other.
    /// </summary>
    public static byte[] Make(int seed, int length)
    {
        var random = new Random(seed);
        var disk = new byte[length];
        int at = 0;
        while (at < length)
        {
            int run = Math.Min(length - at, 512 * random.Next(1, 400) + random.Next(0, 512));
            Span<byte> part = disk.AsSpan(at, run);
            switch (random.Next(4))
            {
                case 0:
                    random.NextBytes(part);
                    break;
                case 1:
                    part.Fill((byte)random.Next(1, 256));
                    break;
                case 2:
                    "a line that compresses well\n"u8.CopyTo(part[..Math.Min(28, run)]);
                    break;
                default:
                    break;
            }

            at += run;
        }

        return disk;
    }

    /// <summary>Converts any image with qemu-img and reads the result: what the disk really holds, says the peer.</summary>
    public static byte[] ReadByPeer(string image, string scratch)
    {
        Tool.Run("qemu-img", "convert", "-O", "raw", image, scratch);
        byte[] content = File.ReadAllBytes(scratch);
        File.Delete(scratch);
        return content;
    }

    /// <summary>Equal, or a message that says where not.</summary>
    public static void AssertEqual(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, string what)
    {
        int same = expected.CommonPrefixLength(actual);
        if (same == expected.Length && expected.Length == actual.Length)
        {
            return;
        }

        string detail = same < Math.Min(expected.Length, actual.Length)
            ? $"found 0x{actual[same]:x2}, expected 0x{expected[same]:x2}"
            : $"found {actual.Length} bytes, expected {expected.Length}";
        Assert.Fail($"{what}: differs at 0x{same:x}: {detail}");
    }

    /// <summary>qemu-img check: leaks are allowed where the caller says so, corruption never.</summary>
    public static void AssertCheckClean(string image, bool leaksAllowed = false)
    {
        ToolResult result = Tool.Try("qemu-img", "check", image);
        Assert.True(result.ExitCode == 0 || (leaksAllowed && result.ExitCode == 3), result.ToString());
    }
}
