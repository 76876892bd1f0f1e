using CommandLine;

namespace ImageMount.Cli.Commands;

/// <summary>What every command that opens an image understands.</summary>
public abstract class ImageArguments : ISecretArguments
{
    [Value(0, MetaName = "SOURCE", HelpText = "Image: a path, a URI, or json:{...}.")]
    public string? Source { get; set; }

    [Option(
        'f', "format", MetaValue = "FMT", HelpText = "Format of the image; without it, recognised from the content.")]
    public string? Format { get; set; }

    [Option("image-opts", HelpText = "SOURCE is a list of options: driver=qcow2,file.filename=disk.qcow2")]
    public bool ImageOpts { get; set; }

    [Option('U', "force-share", HelpText = "Read although another program has the image open for writing.")]
    public bool ForceShare { get; set; }

    [Option("locking", MetaValue = "auto|on|off", HelpText = "Lock the image against other programs.")]
    public string? Locking { get; set; }

    [Option("allow-external", HelpText = "The image may refer to files outside its own directory.")]
    public bool AllowExternal { get; set; }

    [Option("spool", HelpText = "Files of servers that send no parts of them are read to a temporary file first.")]
    public bool Spool { get; set; }

    [Option(
        "remote-cache", MetaValue = "DIR[,size=BYTES][,unversioned=TEXT]",
        HelpText = "Keep what is read from servers in DIR, at most BYTES (32G): for later, and while they are away.")]
    public string? RemoteCache { get; set; }

    [Option(
        "object", Separator = '\x1f', MetaValue = "secret,id=ID,file=FILE",
        HelpText = "A passphrase or key (or tls-creds-x509, tls-creds-psk) that options refer to by its id; may be given "
            + "several times.")]
    public IEnumerable<string> Objects { get; set; } = [];

    [Option(
        "passphrase-file", MetaValue = "FILE",
        HelpText = "Passphrase of encrypted images, without the line end at its end; else a terminal is asked.")]
    public string? PassphraseFile { get; set; }

    [Option("offset", MetaValue = "BYTES", HelpText = "Where the disk begins in the image (suffixes k, M, G, T).")]
    public string? Offset { get; set; }

    [Option("size", MetaValue = "BYTES", HelpText = "Length of the disk from there on.")]
    public string? Size { get; set; }

    [Option(
        "fat-unsupported", MetaValue = "skip|fail|rename",
        HelpText = "For fat:DIR: what becomes of files and names that FAT cannot hold (default: skip).")]
    public string? FatUnsupported { get; set; }

    [Option("debug", HelpText = "Show details of errors; log more.")]
    public bool Debug { get; set; }
}
