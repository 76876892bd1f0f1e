namespace ImageMount.VirtualFat.Tests.Names;

/// <summary>Times: steps, ranges, zones.</summary>
public sealed class TimestampTests
{
    private const long Second = 1_000_000_000;

    [Fact]
    public void Times_are_stored_as_the_specification_says()
    {
        long ns = Unix(2001, 2, 3, 4, 5, 7) + 987_654_321;
        FatTimestamps times = FatTimestamps.FromUnix(ns, ns, ns, TimeZoneInfo.Utc);
        Assert.Equal((21 << 9) | (2 << 5) | 3, times.WriteDate);
        Assert.Equal((4 << 11) | (5 << 5) | 3, times.WriteTime);
        Assert.Equal(198, times.CreationHundredths);
        Assert.Equal(times.WriteDate, times.AccessDate);
        Assert.True(times.TryGetWriteNs(TimeZoneInfo.Utc, out long write));
        Assert.Equal(Unix(2001, 2, 3, 4, 5, 6), write);
        Assert.True(times.TryGetCreationNs(TimeZoneInfo.Utc, out long creation));
        Assert.Equal(Unix(2001, 2, 3, 4, 5, 7) + 980_000_000, creation);
    }

    [Theory]
    [InlineData(long.MinValue, 1980, 1, 1)]
    [InlineData(-1, 1980, 1, 1)]
    [InlineData(long.MaxValue, 2107, 12, 31)]
    public void Times_that_cannot_be_become_the_nearest(long ns, int year, int month, int day)
    {
        FatTimestamps times = FatTimestamps.FromUnix(ns, ns, ns, TimeZoneInfo.Utc);
        Assert.Equal(((year - 1980) << 9) | (month << 5) | day, times.WriteDate);
        Assert.True(times.TryGetWriteNs(TimeZoneInfo.Utc, out _));
    }

    [Fact]
    public void Every_time_in_range_comes_back_in_its_step_in_a_zone_without_changes()
    {
        TimeZoneInfo zone = TimeZoneInfo.CreateCustomTimeZone("t", TimeSpan.FromMinutes(-570), null, null);
        const int Seed = 5;
        var random = new Random(Seed);
        for (int i = 0; i < 20_000; i++)
        {
            long ns = random.NextInt64(Unix(1980, 1, 2, 0, 0, 0), Unix(2107, 12, 30, 0, 0, 0));
            FatTimestamps times = FatTimestamps.FromUnix(ns, ns, ns, zone);
            Assert.True(times.TryGetWriteNs(zone, out long write));
            Assert.InRange(ns - write, 0, 2 * Second - 1);
            Assert.True(times.TryGetCreationNs(zone, out long creation));
            Assert.InRange(ns - creation, 0, Second / 100 - 1);
        }
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(0x21, 24 << 11, 0)]
    [InlineData(0x21, 60 << 5, 0)]
    [InlineData(0x21, 30, 0)]
    [InlineData(0x21, 0, 200)]
    [InlineData((13 << 5) | 1, 0, 0)]
    [InlineData((2 << 5) | 30, 0, 0)]
    public void Fields_that_are_no_time_are_told(int date, int time, int hundredths) =>
        Assert.False(FatTimestamps.TryDecode((ushort)date, (ushort)time, (byte)hundredths, out _));

    private static long Unix(int year, int month, int day, int hour, int minute, int second) =>
        (new DateTime(year, month, day, hour, minute, second, DateTimeKind.Utc) - DateTime.UnixEpoch).Ticks * 100;
}
