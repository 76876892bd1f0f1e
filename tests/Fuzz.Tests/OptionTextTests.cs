using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Fuzz.Tests.Hostile;
using Xunit.Abstractions;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// Sources and options as users, scripts and hostile images write them: any text parses, opens, or fails with
/// <see cref="BlockException"/>.
/// </summary>
public sealed class OptionTextTests(ITestOutputHelper output)
{
    private static readonly string[] s_templates =
    [
        "disk.qcow2", "./a:b.img", "file:///tmp/x.raw", "mem://host/path?size=4k", "mem:", "MEM:x", "nbd://h/x", ":", "a:", "",
        """json:{"driver":"fuzz-format","file":{"driver":"mem","size":"64k"}}""",
        """json:{"driver":"fuzz-format","file.driver":"mem","file.size":65536,"flag":true,"other":null,"list":[1,{"a":2},[]]}""",
        """json:{"driver":"fuzz-format","file":"mem:x","mode":"two","name":"\u00e4\ud83d\ude00\n"}""",
        """json:{"\ud800":1}""", """json:{"a":"\udc00"}""", "json:[]", "json:", "json:{}", """json:{"a":{"b":{"c":{"d":1}}},"a.b.c.d":2}""",
        "driver=fuzz-format,file.driver=mem,file.size=1M,flag=on,mode=one", "file.filename=a,,b=c,driver=raw", "a.b=1,a=2", "=", ",", "a",
        ".=1", "a..b=1", "driver=", "file.=x", "name=,mode=", "flag=maybe,file.size=-1", "file.size=9223372036854775807T",
    ];

    private static readonly string[] s_pieces =
    [
        "{", "}", "[", "]", ":", ",", ",,", "=", ".", "..", "\"", "\\", "\\u0000", "\\ud800", "\0", "\ud800", "é", "driver", "file", "file.",
        "mem", "fuzz-format", "size", "null", "true", "1e999", "-0", "99999999999999999999", "0x10", "1k", "json:", "mem:", "://", "%00",
        "backing", "node-name", "read-only", "cache.direct=on", "\u202e", "\r\n", "{\"a\":",
    ];

    private static int Scale => FuzzScale.Of(6000);

    [Fact]
    public void Source_text_of_any_kind_ends_in_options_or_BlockException()
    {
        int seed = FuzzScale.Seed(1001);
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        var registry = new DriverRegistry([new MemDriver(), new FuzzFormat()]);
        var parser = new SourceParser(registry);
        var opener = new GraphOpener(registry);
        int opened = 0;
        for (int i = 0; i < Scale; i++)
        {
            string text = i < s_templates.Length ? s_templates[i] : Mutate(random);
            opened += Try(text, () => opener.OpenAsync(text, new OpenFlags()).AsTask().GetAwaiter().GetResult()) ? 1 : 0;
            Try(text, () => parser.ParseProtocol(text));
            opened += Try(text, () => opener.OpenAsync(parser.ParseImageOptions(text), new OpenFlags())
                .AsTask().GetAwaiter().GetResult()) ? 1 : 0;
        }

        output.WriteLine($"{opened} opened");
        Assert.True(opened > 3, "the templates themselves should open");
    }

    [Theory]
    [InlineData('{', "{\"a\":", "")]
    [InlineData('[', "{\"a\":[", "")]
    [InlineData('.', "a", ".a")]
    public void Deeply_nested_text_is_refused_or_parsed_without_recursion(char kind, string open, string more)
    {
        var text = new StringBuilder(kind == '.' ? "" : "json:");
        while (text.Length < OptionSyntax.MaxLength - 16)
        {
            text.Append(kind == '.' && text.Length > 0 ? more : open);
        }

        string source = kind == '.' ? text + "=1" : text.ToString();
        var registry = new DriverRegistry([new MemDriver(), new FuzzFormat()]);
        var parser = new SourceParser(registry);
        Try(source[..20], () =>
        {
            OptionMap map = kind == '.' ? parser.ParseImageOptions(source) : parser.Parse(source);
            map.Clone();
            new GraphOpener(registry).OpenAsync(map, new OpenFlags()).AsTask().GetAwaiter().GetResult();
        });
    }

    private static string Mutate(Random random)
    {
        var text = new StringBuilder(s_templates[random.Next(s_templates.Length)]);
        for (int n = random.Next(1, 6); n > 0; n--)
        {
            int at = random.Next(text.Length + 1);
            switch (random.Next(4))
            {
                case 0:
                    text.Insert(at, s_pieces[random.Next(s_pieces.Length)]);
                    break;
                case 1 when at < text.Length:
                    text.Remove(at, Math.Min(text.Length - at, random.Next(1, 6)));
                    break;
                case 2 when at < text.Length:
                    text[at] = (char)random.Next(random.Next(8) == 0 ? 0x10000 : 128);
                    break;
                default:
                    string other = s_templates[random.Next(s_templates.Length)];
                    text.Insert(at, other.AsSpan(random.Next(other.Length + 1)));
                    break;
            }
        }

        return text.ToString();
    }

    private static bool Try(string text, Action action)
    {
        try
        {
            action();
            return true;
        }
        catch (BlockException e)
        {
            Assert.NotEmpty(e.Describe());
            return false;
        }
        catch (Exception e)
        {
            string shown = string.Concat(text.Select(c => c is >= ' ' and < '\x7f' ? c.ToString() : $"\\u{(int)c:x4}"));
            throw new Xunit.Sdk.XunitException($"{e.GetType().Name} for: {shown}", e);
        }
    }

    public enum Mode
    {
        One,
        Two,
    }

    private sealed record MemOptions
    {
        [Option("size", "Bytes.", IsSize = true, Min = 0, Max = 1 << 20)]
        public long Size { get; init; } = 4096;
    }

    [ChildOption("other", "An optional child.")]
    [ChildOption("list", "Some children.", IsList = true)]
    private sealed record FormatOptions
    {
        [Option("flag", "A flag.")]
        public bool? Flag { get; init; }

        [Option("mode", "A choice.")]
        public Mode Mode { get; init; }

        [Option("name", "A text.", Aliases = ["title"])]
        public string? Name { get; init; }
    }

    private sealed class MemDriver : BlockDriver<MemOptions>
    {
        public override string Name => "mem";

        public override DriverKind Kind => DriverKind.Protocol;

        public override string Summary => "Memory.";

        public override IReadOnlyList<string> UriSchemes => ["mem"];

        public override OptionMap ParseUri(string uri)
        {
            var map = new OptionMap();
            map.Set("size", uri.Length.ToString());
            return map;
        }

        protected override ValueTask<BlockDevice> OpenAsync(
            OpenContext context, MemOptions options, CancellationToken cancellationToken) =>
            new(new MemoryDisk(new byte[options.Size], options.Size));
    }

    private sealed class FuzzFormat : BlockDriver<FormatOptions>
    {
        public override string Name => "fuzz-format";

        public override DriverKind Kind => DriverKind.Format;

        public override string Summary => "Its file as it is.";

        public override int Probe(in ProbeInput input) => 10;

        protected override async ValueTask<BlockDevice> OpenAsync(
            OpenContext context, FormatOptions options, CancellationToken cancellationToken)
        {
            if (context.HasChildOptions("other"))
            {
                await context.OpenChildAsync("other", null, null, false, cancellationToken);
            }

            return new MemoryDisk(new byte[context.File.Length], context.File.Length);
        }
    }
}
