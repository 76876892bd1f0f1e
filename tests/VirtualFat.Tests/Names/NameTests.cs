using System.Diagnostics;
using System.Text;

namespace ImageMount.VirtualFat.Tests.Names;

/// <summary>Short names, long names, and which names can be.</summary>
public sealed class NameTests
{
    [Theory]
    [InlineData("README.TXT", "README  TXT", 0)]
    [InlineData("readme.txt", "README  TXT", 0x18)]
    [InlineData("README.txt", "README  TXT", 0x10)]
    [InlineData("readme.TXT", "README  TXT", 0x08)]
    [InlineData("a", "A          ", 0x08)]
    [InlineData("12345678.123", "12345678123", 0)]
    [InlineData("a-b_c~1.~", "A-B_C~1 ~  ", 0x08)]
    public void A_name_that_fits_needs_no_long_one(string name, string stored, int nameCase)
    {
        Assert.Equal(ShortNameFit.Exact, ShortName.Fit(name, out ShortName83 shortName, out NameCase found));
        Assert.Equal(stored, Stored(shortName));
        Assert.Equal(nameCase, (int)found);
        Assert.Equal(name, shortName.ToText(found));
    }

    [Theory]
    [InlineData("Readme.txt", "README  TXT")]
    [InlineData("a.Tx", "A       TX ")]
    public void A_name_of_mixed_case_keeps_its_short_name(string name, string stored)
    {
        Assert.Equal(ShortNameFit.ButForCase, ShortName.Fit(name, out ShortName83 shortName, out _));
        Assert.Equal(stored, Stored(shortName));
    }

    [Theory]
    [InlineData("123456789")]
    [InlineData("a.text")]
    [InlineData("a.b.c")]
    [InlineData(".a")]
    [InlineData("a b")]
    [InlineData("ä")]
    [InlineData("a+b")]
    [InlineData("a\x7f")]
    public void Other_names_do_not_fit(string name) =>
        Assert.Equal(ShortNameFit.Lossy, ShortName.Fit(name, out _, out _));

    [Theory]
    [InlineData("Long file name.text", "LONGFI~1TEX")]
    [InlineData(".config", "CONFIG~1   ")]
    [InlineData("a.tar.gz", "ATAR~1  GZ ")]
    [InlineData("日本語.txt", "___~1   TXT")]
    [InlineData("😀", "_~1        ")]
    [InlineData("...x", "X~1        ")]
    [InlineData("a+b=c.d", "A_B_C~1 D  ")]
    public void Other_names_get_a_number(string name, string stored) =>
        Assert.Equal(stored, Stored(new ShortNameTable().MakeUp(name)));

    [Fact]
    public void Numbers_go_on_where_the_digits_run_out_and_avoid_names_that_are_there()
    {
        var table = new ShortNameTable();
        for (int number = 1; number <= 9; number++)
        {
            if (number == 5)
            {
                continue;
            }

            Assert.True(table.TryTake(ShortName83.FromParts($"LONGFI~{number}", "TXT")));
        }

        Assert.Equal("LONGFI~5TXT", Stored(table.MakeUp("long file 1.txt")));
        Assert.Equal("LONGF~10TXT", Stored(table.MakeUp("long file 2.txt")));
        Assert.Equal("LONGF~11TXT", Stored(table.MakeUp("long file 3.txt")));
        Assert.Equal("LONGFO~1TXT", Stored(table.MakeUp("long foo.txt")));
    }

    [Fact]
    public void Tens_of_thousands_with_one_beginning_are_different_and_fast()
    {
        var table = new ShortNameTable();
        var seen = new HashSet<ShortName83>();
        var watch = Stopwatch.StartNew();
        for (int i = 0; i < 60_000; i++)
        {
            Assert.True(seen.Add(table.MakeUp($"the same beginning {i}.data")));
        }

        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(5), $"it took {watch.Elapsed}");
    }

    [Fact]
    public void The_checksum_is_the_specifications()
    {
        // By the algorithm of the specification's C function, worked out apart.
        byte sum = 0;
        foreach (byte b in "LONGFI~1TEX"u8)
        {
            sum = (byte)((((sum & 1) != 0 ? 0x80 : 0) + (sum >> 1) + b) & 0xff);
        }

        Assert.Equal(sum, ShortName83.FromBytes("LONGFI~1TEX"u8).Checksum());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(12)]
    [InlineData(13)]
    [InlineData(14)]
    [InlineData(26)]
    [InlineData(254)]
    [InlineData(255)]
    public void Long_names_come_back(int length)
    {
        string name = string.Concat(Enumerable.Range(0, length).Select(i => (char)(0x100 + i)));
        var parts = new LongNameEntry[LongName.EntriesFor(length)];
        LongName.Pack(name, 0x5a, parts);
        Assert.Equal(0x40 | parts.Length, parts[0].Order);
        Assert.True(LongName.TryUnpack(parts, 0x5a, out string back));
        Assert.Equal(name, back);
        Assert.False(LongName.TryUnpack(parts, 0x5b, out _));
        if (parts.Length > 1)
        {
            Assert.False(LongName.TryUnpack(parts.AsSpan(1), 0x5a, out _));
            (parts[0], parts[1]) = (parts[1], parts[0]);
            Assert.False(LongName.TryUnpack(parts, 0x5a, out _));
        }
    }

    [Theory]
    [InlineData("", NameProblem.Empty)]
    [InlineData("a:b", NameProblem.ReservedCharacter)]
    [InlineData("a\tb", NameProblem.ReservedCharacter)]
    [InlineData("a.", NameProblem.TrailingDotOrSpace)]
    [InlineData("a ", NameProblem.TrailingDotOrSpace)]
    [InlineData("...", NameProblem.TrailingDotOrSpace)]
    [InlineData("a\uffff", NameProblem.Filler)]
    [InlineData("a\ufffe", NameProblem.None)]
    [InlineData("😀", NameProblem.None)]
    [InlineData(" a", NameProblem.None)]
    [InlineData("aux.c", NameProblem.None)]
    internal void Names_are_judged(string name, NameProblem problem) => Assert.Equal(problem, NameRules.Check(name));

    [Fact]
    public void Halves_of_characters_and_long_names_are_judged()
    {
        Assert.Equal(NameProblem.NotUnicode, NameRules.Check("a\ud800"));
        Assert.Equal(NameProblem.NotUnicode, NameRules.Check("\udc00a"));
        Assert.Equal(NameProblem.NotUnicode, NameRules.Check("\ud800\ud800\udc00"));
        Assert.Equal(NameProblem.None, NameRules.Check(new string('x', 255)));
        Assert.Equal(NameProblem.TooLong, NameRules.Check(new string('x', 256)));
    }

    [Fact]
    public void Repaired_names_are_good()
    {
        const int Seed = 77;
        var random = new Random(Seed);
        for (int i = 0; i < 20_000; i++)
        {
            char[] units = new char[random.Next(0, 300)];
            for (int k = 0; k < units.Length; k++)
            {
                units[k] = (char)(random.Next(3) == 0 ? random.Next(0x80) : random.Next(0x10000));
            }

            string repaired = NameRules.Repair(units);
            Assert.True(NameRules.Check(repaired) == NameProblem.None, $"seed {Seed}, {i}: {NameRules.Check(repaired)}");
            string second = NameRules.AddSuffix(repaired, " (2)");
            Assert.True(NameRules.Check(second) == NameProblem.None, $"seed {Seed}, {i}: {NameRules.Check(second)}");
        }

        Assert.Equal("a_b.txt", NameRules.Repair("a:b.txt"));
        Assert.Equal("a__", NameRules.Repair("a. "));
        Assert.Equal("a (2).txt", NameRules.AddSuffix("a.txt", " (2)"));
    }

    [Theory]
    [InlineData("CON", true)]
    [InlineData("aux.c", true)]
    [InlineData("Lpt1.txt", true)]
    [InlineData("com0", false)]
    [InlineData("console", false)]
    public void Device_names_are_known(string name, bool isDevice) =>
        Assert.Equal(isDevice, NameRules.IsDeviceName(name));

    private static string Stored(ShortName83 name)
    {
        byte[] bytes = new byte[ShortName83.Size];
        name.CopyTo(bytes);
        return Encoding.ASCII.GetString(bytes);
    }
}
