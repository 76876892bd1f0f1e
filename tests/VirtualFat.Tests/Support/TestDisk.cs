using ImageMount.VirtualFat.Synthesis;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>A folder opened as a disk.</summary>
internal sealed class TestDisk : IDisposable
{
    private TestDisk(FatSynthesiser synthesiser) => Synthesiser = synthesiser;

    public FatSynthesiser Synthesiser { get; }

    public FatPlan Plan => Synthesiser.Plan;

    public FatGeometry Geometry => Plan.Geometry;

    public List<string> Warnings { get; private init; } = [];

    public static TestDisk Open(VirtualFatOptions options, TimeZoneInfo? zone = null)
    {
        var warnings = new List<string>();
        return new TestDisk(VirtualFatDriver.OpenDisk(
            options, zone ?? TimeZoneInfo.Utc, warnings.Add, CancellationToken.None))
        {
            Warnings = warnings,
        };
    }

    public byte[] Read(long offset, int count)
    {
        byte[] bytes = new byte[count];
        bytes.AsSpan().Fill(0xcc);
        ValueTask task = Synthesiser.ReadAsync(offset, bytes, CancellationToken.None);
        Assert.True(task.IsCompletedSuccessfully);
        return bytes;
    }

    /// <summary>The whole disk, in pieces of odd sizes.</summary>
    public byte[] ReadAll(Random random)
    {
        byte[] disk = new byte[Geometry.TotalBytes];
        int at = 0;
        while (at < disk.Length)
        {
            int count = Math.Min(disk.Length - at, random.Next(4) == 0 ? random.Next(1, 3000) : random.Next(1, 1 << 20));
            Read(at, count).CopyTo(disk, at);
            at += count;
        }

        return disk;
    }

    /// <summary>Status of the whole disk agrees with its bytes: what is called zero is zero.</summary>
    public void CheckMap(byte[] disk)
    {
        long at = 0;
        while (at < disk.Length)
        {
            BlockExtent extent = Synthesiser.MapAsync(at, disk.Length - at, CancellationToken.None).Result;
            Assert.InRange(extent.Length, 1, disk.Length - at);
            Assert.NotEqual(extent.IsZero, extent.IsData);
            Assert.True(
                !extent.IsZero || disk.AsSpan((int)at, (int)extent.Length).IndexOfAnyExcept((byte)0) < 0,
                $"called zero at 0x{at:x}, and is not");
            at += extent.Length;
        }
    }

    public void Dispose() => Synthesiser.Dispose();
}
