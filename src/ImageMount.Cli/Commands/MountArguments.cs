using CommandLine;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount [mount] SOURCE MOUNTPOINT`.</summary>
[Verb("mount", isDefault: true, HelpText = "Show a disk image as a raw disk, with its partitions.")]
public sealed class MountArguments : ImageArguments
{
    [Value(1, MetaName = "MOUNTPOINT", HelpText = "An empty directory, or a file that is to become the disk.")]
    public string? MountPoint { get; set; }

    [Value(2, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option('r', "read-only", HelpText = "No writes.")]
    public bool ReadOnly { get; set; }

    [Option('s', "snapshot", HelpText = "Writes go to a temporary overlay and are forgotten at unmount.")]
    public bool Snapshot { get; set; }

    [Option("cache", MetaValue = "MODE", HelpText = "writeback (default), none, writethrough, directsync or unsafe.")]
    public string? Cache { get; set; }

    [Option(
        "discard", MetaValue = "unmap|ignore",
        HelpText = "Whether punched holes free space in the image (default: unmap).")]
    public string? Discard { get; set; }

    [Option("growable", HelpText = "Writing past the end makes the disk larger.")]
    public bool Growable { get; set; }

    [Option(
        "fat-refresh",
        HelpText = "For fat:DIR: scan the folder again when the disk is opened and nobody else has it open.")]
    public bool FatRefresh { get; set; }

    [Option("allow-other", HelpText = "Other users may look in; default mode 644 instead of 600.")]
    public bool AllowOther { get; set; }

    [Option("uid", MetaValue = "UID", HelpText = "Owner of the files (default: you).")]
    public uint? Uid { get; set; }

    [Option("gid", MetaValue = "GID", HelpText = "Group of the files (default: yours).")]
    public uint? Gid { get; set; }

    [Option("mode", MetaValue = "OCTAL", HelpText = "Permissions of the files, such as 640.")]
    public string? Mode { get; set; }

    [Option("nonempty", HelpText = "Mount over a directory that is not empty.")]
    public bool NonEmpty { get; set; }

    [Option(
        'o', Separator = ',', MetaValue = "OPTS",
        HelpText = "The same in the manner of mount(8): -o ro,uid=1000,cache=none")]
    public IEnumerable<string> MountOptions { get; set; } = [];

    [Option("foreground", HelpText = "Stay in the foreground; unmount with Ctrl-C.")]
    public bool Foreground { get; set; }

    [Option("pidfile", MetaValue = "FILE", HelpText = "Write the process id of the mount there.")]
    public string? PidFile { get; set; }

    [Option(
        "log-file", MetaValue = "FILE", HelpText = "Log there (default: a file in the state directory, when needed).")]
    public string? LogFile { get; set; }

    [Option("transport", MetaValue = "auto|threads|uring", HelpText = "How requests travel between kernel and imgmount.")]
    public string? Transport { get; set; }

    [Option("threads", MetaValue = "N", HelpText = "Worker threads (default: by the number of processors).")]
    public int? Threads { get; set; }
}
