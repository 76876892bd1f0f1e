using System.Globalization;

namespace ImageMount.VirtualFat.Layout;

/// <summary>
/// The times of a directory entry as stored ("Date and Time Formats"). FAT keeps local time: writing in steps of 2 s,
/// creation in steps of 10 ms, reading in days, from 1980 to 2107.
/// </summary>
internal readonly record struct FatTimestamps(
    ushort WriteDate, ushort WriteTime, ushort CreationDate, ushort CreationTime, byte CreationHundredths,
    ushort AccessDate)
{
    private const int FirstYear = 1980;
    private const int LastYear = 2107;
    private const long NanosecondsPerTick = 100;

    /// <summary>Stores times of the host, nanoseconds since 1970 in UTC. What FAT cannot say becomes the nearest that it
    /// can; parts of a step are cut off.</summary>
    public static FatTimestamps FromUnix(long writeNs, long creationNs, long accessNs, TimeZoneInfo zone)
    {
        (ushort writeDate, ushort writeTime, _) = Encode(ToLocal(writeNs, zone));
        (ushort creationDate, ushort creationTime, byte hundredths) = Encode(ToLocal(creationNs, zone));
        (ushort accessDate, _, _) = Encode(ToLocal(accessNs, zone));
        return new FatTimestamps(writeDate, writeTime, creationDate, creationTime, hundredths, accessDate);
    }

    /// <summary>When the file was last written, nanoseconds since 1970 in UTC; false where the fields are no time.</summary>
    public bool TryGetWriteNs(TimeZoneInfo zone, out long ns) => TryDecode(WriteDate, WriteTime, 0, zone, out ns);

    /// <summary>When the file was made; false where the fields are no time (a creation date is optional).</summary>
    public bool TryGetCreationNs(TimeZoneInfo zone, out long ns) =>
        TryDecode(CreationDate, CreationTime, CreationHundredths, zone, out ns);

    /// <summary>The day on which the file was last read, as its midnight; false where the field is no date.</summary>
    public bool TryGetAccessNs(TimeZoneInfo zone, out long ns) => TryDecode(AccessDate, 0, 0, zone, out ns);

    /// <summary>Date, time and hundredths of a local time, brought into FAT's range.</summary>
    public static (ushort Date, ushort Time, byte Hundredths) Encode(DateTime local)
    {
        if (local.Year < FirstYear)
        {
            local = new DateTime(FirstYear, 1, 1, 0, 0, 0, DateTimeKind.Unspecified);
        }
        else if (local.Year > LastYear)
        {
            local = new DateTime(LastYear, 12, 31, 23, 59, 59, 990, DateTimeKind.Unspecified);
        }

        int date = (local.Year - FirstYear) << 9 | local.Month << 5 | local.Day;
        int time = local.Hour << 11 | local.Minute << 5 | local.Second / 2;
        int hundredths = local.Second % 2 * 100 + local.Millisecond / 10;
        return ((ushort)date, (ushort)time, (byte)hundredths);
    }

    /// <summary>The local time that fields stand for; false when they stand for none (month 13, 25 o'clock).</summary>
    public static bool TryDecode(ushort date, ushort time, byte hundredths, out DateTime local)
    {
        (int year, int month, int day) = (FirstYear + (date >> 9), date >> 5 & 15, date & 31);
        (int hour, int minute, int second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
        local = default;
        if (month is < 1 or > 12 || day < 1 || day > DateTime.DaysInMonth(year, month)
            || hour > 23 || minute > 59 || second > 59 || hundredths > 199)
        {
            return false;
        }

        local = new DateTime(year, month, day, hour, minute, second, DateTimeKind.Unspecified)
            .AddMilliseconds(hundredths * 10);
        return true;
    }

    /// <inheritdoc/>
    public override string ToString() => TryDecode(WriteDate, WriteTime, 0, out DateTime local)
        ? local.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture)
        : "no time";

    private static DateTime ToLocal(long ns, TimeZoneInfo zone)
    {
        // 64 bits of nanoseconds reach from 1677 to 2262, all of which DateTime can say. Before 1970: round down too.
        long ticks = ns / NanosecondsPerTick - (ns % NanosecondsPerTick < 0 ? 1 : 0);
        DateTime utc = DateTime.UnixEpoch.AddTicks(ticks);
        return TimeZoneInfo.ConvertTimeFromUtc(utc, zone);
    }

    private static bool TryDecode(ushort date, ushort time, byte hundredths, TimeZoneInfo zone, out long ns)
    {
        ns = 0;
        if (!TryDecode(date, time, hundredths, out DateTime local))
        {
            return false;
        }

        // An hour that the change to summer time leaves out: read as if the change had not happened yet.
        TimeSpan offset = zone.GetUtcOffset(local);
        ns = (local - offset - DateTime.UnixEpoch).Ticks * NanosecondsPerTick;
        return true;
    }
}
