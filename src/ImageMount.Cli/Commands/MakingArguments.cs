using CommandLine;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount create FILE [SIZE]`.</summary>
[Verb("create", HelpText = "Make an empty image.")]
public sealed class CreateArguments : ISecretArguments
{
    [Value(0, MetaName = "FILE", HelpText = "The new image.")]
    public string? File { get; set; }

    [Value(1, MetaName = "[SIZE]", HelpText = "Size of the disk (suffixes k, M, G, T); not needed with a parent.")]
    public string? Size { get; set; }

    [Value(2, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option('f', "format", MetaValue = "FMT", HelpText = "Format of the new image (default raw).")]
    public string? Format { get; set; }

    [Option(
        'o', Separator = '\n', MetaValue = "OPTS",
        HelpText = "Options of the format: a=b,c=d. '-o help' lists them.")]
    public IEnumerable<string> Options { get; set; } = [];

    [Option('b', "backing", MetaValue = "PARENT", HelpText = "The parent image, as it is to stand in the new one.")]
    public string? Backing { get; set; }

    [Option('F', "backing-format", MetaValue = "FMT", HelpText = "Format of the parent.")]
    public string? BackingFormat { get; set; }

    [Option('u', "unsafe", HelpText = "Do not look whether the parent is there.")]
    public bool Unsafe { get; set; }

    [Option("overwrite", HelpText = "FILE may exist; what it holds is lost.")]
    public bool Overwrite { get; set; }

    [Option(
        "object", Separator = '\x1f', MetaValue = "secret,id=ID,file=FILE",
        HelpText = "A passphrase or key that options refer to by its id; may be given several times.")]
    public IEnumerable<string> Objects { get; set; } = [];

    [Option(
        "passphrase-file", MetaValue = "FILE",
        HelpText = "Passphrase of a new encrypted image, without the line end at its end.")]
    public string? PassphraseFile { get; set; }

    [Option('q', "quiet", HelpText = "Say nothing when it works.")]
    public bool Quiet { get; set; }

    [Option("debug", HelpText = "Show details of errors.")]
    public bool Debug { get; set; }
}

/// <summary>`imgmount convert SOURCE FILE`.</summary>
[Verb("convert", HelpText = "Make an image that holds what another one holds.")]
public sealed class ConvertArguments : ImageArguments
{
    [Value(1, MetaName = "FILE", HelpText = "The new image.")]
    public string? Target { get; set; }

    [Value(2, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option('O', "target-format", MetaValue = "FMT", HelpText = "Format of the new image (default raw).")]
    public string? TargetFormat { get; set; }

    [Option(
        'o', Separator = '\n', MetaValue = "OPTS",
        HelpText = "Options of the new image: a=b,c=d. '-o help' lists them.")]
    public IEnumerable<string> TargetOptions { get; set; } = [];

    [Option("overwrite", HelpText = "FILE may exist; what it holds is lost.")]
    public bool Overwrite { get; set; }

    [Option('p', "progress", HelpText = "Show how far it is.")]
    public bool Progress { get; set; }

    [Option('q', "quiet", HelpText = "Say nothing when it works.")]
    public bool Quiet { get; set; }
}
