using CommandLine;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount umount MOUNTPOINT`.</summary>
[Verb("umount", HelpText = "Unmount; returns when the image is flushed, closed and unlocked.")]
public sealed class UmountArguments
{
    [Value(0, MetaName = "MOUNTPOINT", HelpText = "Where it is mounted (or the image that is).")]
    public string? MountPoint { get; set; }

    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option('l', "lazy", HelpText = "Detach now, finish when the last user lets go; does not wait.")]
    public bool Lazy { get; set; }

    [Option("force", HelpText = "Cut off who uses it; what they have written so far is saved.")]
    public bool Force { get; set; }

    [Option("debug", HelpText = "Show details of errors.")]
    public bool Debug { get; set; }
}

/// <summary>`imgmount info SOURCE`.</summary>
[Verb("info", HelpText = "Say what an image is.")]
public sealed class InfoArguments : ImageArguments
{
    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("json", HelpText = "In the schema of `qemu-img info --output=json`.")]
    public bool Json { get; set; }

    [Option("output", MetaValue = "human|json", HelpText = "The same, as qemu-img spells it.")]
    public string? Output { get; set; }

    [Option("backing-chain", HelpText = "Its parents too.")]
    public bool BackingChain { get; set; }
}

/// <summary>`imgmount map SOURCE`.</summary>
[Verb("map", HelpText = "Say where the bytes of the disk are stored.")]
public sealed class MapArguments : ImageArguments
{
    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("json", HelpText = "In the schema of `qemu-img map --output=json`.")]
    public bool Json { get; set; }

    [Option("output", MetaValue = "human|json", HelpText = "The same, as qemu-img spells it.")]
    public string? Output { get; set; }

    [Option('s', "start-offset", MetaValue = "BYTES", HelpText = "Begin there.")]
    public string? Start { get; set; }

    [Option('l', "max-length", MetaValue = "BYTES", HelpText = "So much of the disk.")]
    public string? MaxLength { get; set; }
}

/// <summary>`imgmount check SOURCE`.</summary>
[Verb("check", HelpText = "Verify the structure of an image; changes nothing.")]
public sealed class CheckArguments : ImageArguments
{
    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("json", HelpText = "In the schema of `qemu-img check --output=json`.")]
    public bool Json { get; set; }

    [Option("output", MetaValue = "human|json", HelpText = "The same, as qemu-img spells it.")]
    public string? Output { get; set; }

    [Option('q', "quiet", HelpText = "Say nothing; the exit code tells.")]
    public bool Quiet { get; set; }
}

/// <summary>`imgmount amend SOURCE`.</summary>
[Verb("amend", HelpText = "Add and remove passphrases of an encrypted image.")]
public sealed class AmendArguments : ImageArguments
{
    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option(
        'o', Separator = '\x1f', MetaValue = "OPTIONS",
        HelpText = "state=active,new-secret=ID[,keyslot=N] or state=inactive,old-secret=ID|keyslot=N; qcow2: "
            + "encrypt.state=... and so on.")]
    public IEnumerable<string> Options { get; set; } = [];

    [Option("force", HelpText = "Also remove the last passphrase: the image can never be read again.")]
    public bool Force { get; set; }
}

/// <summary>`imgmount commit MOUNTPOINT|JOURNAL`.</summary>
[Verb("commit", HelpText = "Apply what was written to the disk of a folder (fat:rw:DIR) to the folder now.")]
public sealed class CommitArguments
{
    [Value(0, MetaName = "MOUNTPOINT", HelpText = "Where it is mounted, or the journal that an earlier mount kept.")]
    public string? Place { get; set; }

    [Value(1, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("debug", HelpText = "Show details of errors.")]
    public bool Debug { get; set; }
}

/// <summary>`imgmount list`.</summary>
[Verb("list", HelpText = "Show what is mounted.")]
public sealed class ListArguments
{
    [Value(0, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("json", HelpText = "As JSON.")]
    public bool Json { get; set; }

    [Option("debug", HelpText = "Show details of errors.")]
    public bool Debug { get; set; }
}

/// <summary>`imgmount doctor`.</summary>
[Verb("doctor", HelpText = "Show what this machine has of what imgmount can use.")]
public sealed class DoctorArguments
{
    [Value(0, Hidden = true)]
    public IEnumerable<string> Rest { get; set; } = [];

    [Option("json", HelpText = "As JSON.")]
    public bool Json { get; set; }

    [Option("debug", HelpText = "Show details of errors.")]
    public bool Debug { get; set; }
}
