using System.Buffers.Binary;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>
/// What each option of "create" leaves in the file, read by hand from the places that [MS-VHDX] gives: an option that
/// is accepted and does nothing fails here.
/// </summary>
public sealed class VhdxOptionTests
{
    private const int MiB = 1 << 20;
    private const int Size = (5 * MiB) + 4096;
    private static readonly Guid s_bat = new("2dc27766-f623-4200-9d64-115e9bfd4a08");
    private static readonly Guid s_metadata = new("8b7ca206-4790-4b9a-b8fe-575f050f886e");
    private static readonly Guid s_fileParameters = new("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
    private static readonly Guid s_logicalSector = new("8141bf1d-a96f-4709-ba47-f233a8faab5f");

    /// <summary>Every combination.</summary>
    public static TheoryData<bool, string, int, int, int> Combinations()
    {
        var all = new TheoryData<bool, string, int, int, int>();
        for (int i = 0; i < 32; i++)
        {
            all.Add(
                (i & 1) != 0, (i & 2) != 0 ? "fixed" : "dynamic", (i & 4) != 0 ? 3 * MiB : MiB,
                (i & 8) != 0 ? 4 * MiB : MiB, (i & 16) != 0 ? 4096 : 512);
        }

        return all;
    }

    [Theory]
    [MemberData(nameof(Combinations))]
    public async Task Options_are_in_the_file(
        bool blockStateZero, string subformat, int logSize, int blockSize, int sectorSize)
    {
        using var dir = new TempDir();
        string path = dir.File("made.vhdx");
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            "vhdx", path, OptionSyntax.ParsePairs(
                $"size={Size},block_state_zero={(blockStateZero ? "on" : "off")},subformat={subformat},"
                + $"log_size={logSize},block_size={blockSize},logical_sector_size={sectorSize}"),
            new CreateRequest());
        byte[] image = File.ReadAllBytes(path);

        // The newer of two headers: log length and offset.
        ReadOnlySpan<byte> first = image.AsSpan(64 << 10);
        ReadOnlySpan<byte> second = image.AsSpan(128 << 10);
        ReadOnlySpan<byte> header = U64(first, 8) > U64(second, 8) ? first : second;
        Assert.True(header.StartsWith("head"u8));
        Assert.Equal((uint)logSize, U32(header, 68));
        ulong logOffset = U64(header, 72);

        (long batAt, long batSize) = Region(image, s_bat);
        (long metadataAt, long metadataSize) = Region(image, s_metadata);
        ReadOnlySpan<byte> parameters = Item(image.AsSpan((int)metadataAt), s_fileParameters);
        Assert.Equal((uint)blockSize, U32(parameters, 0));
        Assert.Equal(subformat == "fixed" ? 1u : 0u, U32(parameters, 4));
        Assert.Equal((uint)sectorSize, U32(Item(image.AsSpan((int)metadataAt), s_logicalSector), 0));

        // Nothing overlaps, whatever the log's size.
        (long At, long Size)[] parts =
            [(0, MiB), ((long)logOffset, logSize), (metadataAt, metadataSize), (batAt, batSize)];
        long end = 0;
        foreach ((long at, long size) in parts.OrderBy(part => part.At))
        {
            Assert.True(at >= end && at % MiB == 0, $"0x{at:x} lies before 0x{end:x}");
            end = at + size;
        }

        int blocks = (Size + blockSize - 1) / blockSize;
        var used = new HashSet<long>();
        for (int i = 0; i < blocks; i++)
        {
            ulong entry = U64(image.AsSpan((int)batAt), i * 8);
            int expected = subformat == "fixed" ? 6 : blockStateZero ? 2 : 0;
            Assert.Equal(expected, (int)(entry & 7));
            long at = (long)(entry & ~(ulong)(MiB - 1));
            if (subformat == "fixed")
            {
                Assert.True(at >= end && at + blockSize <= image.Length && used.Add(at), $"block {i} at 0x{at:x}");
            }
            else
            {
                Assert.Equal(0, at);
            }
        }

        Assert.True(subformat == "dynamic" ? image.Length <= end : image.Length >= end + ((long)blocks * blockSize));
    }

    private static (long At, long Size) Region(ReadOnlySpan<byte> image, Guid id)
    {
        ReadOnlySpan<byte> table = image[(192 << 10)..];
        Assert.True(table.StartsWith("regi"u8));
        for (int i = 0; i < U32(table, 8); i++)
        {
            ReadOnlySpan<byte> entry = table.Slice(16 + (32 * i), 32);
            if (new Guid(entry[..16]) == id)
            {
                return ((long)U64(entry, 16), U32(entry, 24));
            }
        }

        throw new Xunit.Sdk.XunitException($"no region {id}");
    }

    private static ReadOnlySpan<byte> Item(ReadOnlySpan<byte> metadata, Guid id)
    {
        Assert.True(metadata.StartsWith("metadata"u8));
        for (int i = 0; i < BinaryPrimitives.ReadUInt16LittleEndian(metadata[10..]); i++)
        {
            ReadOnlySpan<byte> entry = metadata.Slice(32 + (32 * i), 32);
            if (new Guid(entry[..16]) == id)
            {
                return metadata.Slice((int)U32(entry, 16), (int)U32(entry, 20));
            }
        }

        throw new Xunit.Sdk.XunitException($"no item {id}");
    }

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
