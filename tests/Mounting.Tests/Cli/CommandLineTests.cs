using ImageMount.Cli;
using ImageMount.Cli.Background;
using ImageMount.Cli.Commands;
using ImageMount.Cli.Output;

namespace ImageMount.Mounting.Tests.Cli;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("a.qcow2 /mnt", "mount", 2)]
    [InlineData("mount a.qcow2 /mnt", "mount", 2)]
    [InlineData("umount /mnt", "umount", 1)]
    [InlineData("unmount /mnt", "umount", 1)]
    [InlineData("-r a.qcow2 /mnt", "mount", 3)]
    [InlineData("info a", "info", 1)]
    public void The_first_word_is_a_verb_or_the_verb_is_mount(string line, string verb, int words)
    {
        (string found, string[] rest) = CommandLineReader.SplitVerb(line.Split(' '));
        Assert.Equal((verb, words), (found, rest.Length));
    }

    [Fact]
    public void Options_may_stand_anywhere_and_be_written_either_way()
    {
        MountRequest request = Mount("-r a.qcow2 --cache=none /mnt/x --threads 3 --mode 0640 -f qcow2 -U --uid=5");
        Assert.Equal("a.qcow2", request.Image.Source);
        Assert.Equal("/mnt/x", request.MountPoint);
        Assert.Equal((true, CacheMode.None, 3, 0x1A0u, 5u), (
            request.ReadOnly, request.Cache, request.Threads, request.Mode, request.Uid));
        Assert.Equal(("qcow2", true), (request.Image.Format, request.Image.ForceShare));
    }

    [Fact]
    public void Fuse_style_options_mean_the_same_and_take_no_words_that_are_not_theirs()
    {
        MountRequest request = Mount("-o ro,uid=7,cache=directsync -o allow_other,nofail a.img /mnt/x");
        Assert.Equal(("a.img", "/mnt/x"), (request.Image.Source, request.MountPoint));
        Assert.Equal((true, 7u, CacheMode.Directsync, true), (
            request.ReadOnly, request.Uid, request.Cache, request.AllowOther));
    }

    [Theory]
    [InlineData("--read-onyl a /m", "--read-onyl", "Did you mean '--read-only'")]
    [InlineData("a /m --cache=sometimes", "sometimes", "writeback")]
    [InlineData("a /m --cache=writebak", "writebak", "Did you mean 'writeback'")]
    [InlineData("a /m --mode 9", "'9'", "octal")]
    [InlineData("a /m --mode 7777", "'7777'", "octal")]
    [InlineData("a /m --uid x", "--uid", "")]
    [InlineData("a /m --threads 0", "--threads", "1 to 64")]
    [InlineData("a /m b", "'b'", "one argument too many")]
    [InlineData("a", "MOUNTPOINT", "")]
    [InlineData("umuont", "umuont", "Did you mean 'umount'")]
    [InlineData("a /m -o uidd=1", "uidd", "Did you mean 'uid'")]
    [InlineData("a /m -o uid", "uid", "needs a value")]
    [InlineData("a /m -o ro=1", "ro", "")]
    [InlineData("a /m --cache", "--cache", "needs a value")]
    [InlineData("a /m --growable --read-only", "--growable", "contradict")]
    [InlineData("a /m -r -r", "", "")]
    public void A_mistake_is_named_with_what_was_probably_meant(string line, string names, string says)
    {
        try
        {
            MountRequest request = Mount(line);

            // Saying it twice is no mistake.
            Assert.True(line.EndsWith("-r -r", StringComparison.Ordinal) && request.ReadOnly);
        }
        catch (UsageException e)
        {
            string all = $"{e.Message} {e.Hint}";
            Assert.Contains(names, all, StringComparison.Ordinal);
            Assert.Contains(says, all, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("512", 512L)]
    [InlineData("1k", 1024L)]
    [InlineData("3M", 3L << 20)]
    [InlineData("2g", 2L << 30)]
    [InlineData("1T", 1L << 40)]
    public void Sizes_have_suffixes(string text, long expected) =>
        Assert.Equal(expected, Arguments.Bytes(text, "size"));

    [Theory]
    [InlineData("")]
    [InlineData("k")]
    [InlineData("-1")]
    [InlineData("1kk")]
    [InlineData("9999999999999T")]
    [InlineData("0x10")]
    public void A_size_that_is_none_is_a_usage_error(string text) =>
        Assert.Throws<UsageException>(() => Arguments.Bytes(text, "size"));

    [Fact]
    public void Help_fits_eighty_columns_and_names_every_option()
    {
        IEnumerable<string> verbs = CommandLineReader.Verbs.Select(v => HelpText.ForVerb(v.Verb));
        foreach (string text in verbs.Append(HelpText.ForProgram()))
        {
            Assert.All(text.Split('\n'), line => Assert.True(line.Length <= 79, line));
        }

        foreach ((string verb, Type arguments) in CommandLineReader.Verbs)
        {
            string text = HelpText.ForVerb(verb);
            foreach (CommandLine.OptionAttribute option in CommandLineReader.OptionsOf(arguments))
            {
                string name = option.LongName.Length > 0 ? "--" + option.LongName : "-" + option.ShortName;
                Assert.Contains(name, text, StringComparison.Ordinal);
                Assert.False(string.IsNullOrEmpty(option.HelpText), option.LongName);
            }
        }
    }

    [Fact]
    public void Every_driver_there_is_is_listed() =>
        Assert.Equal(
            TestGraph.Registry.Drivers.Select(d => d.Name).Order(),
            Drivers.Registry.Drivers.Select(d => d.Name).Order());

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(999, "999 B")]
    [InlineData(1023, "1 KiB")]
    [InlineData(1536, "1.5 KiB")]
    [InlineData(16 << 20, "16 MiB")]
    [InlineData(long.MaxValue, "8 EiB")]
    public void Sizes_are_shown_in_three_digits(long bytes, string expected) =>
        Assert.Equal(expected, Sizes.Human(bytes));

    private static MountRequest Mount(string line) =>
        MountCommand.Prepare(CommandLineReader.Parse<MountArguments>(line.Split(' ')));
}
