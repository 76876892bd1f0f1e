using System.Globalization;
using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.Fuse;
using ImageMount.Mounting;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount [mount] SOURCE MOUNTPOINT`.</summary>
internal static class MountCommand
{
    // What mount(8) and fstab add on their own account, and what is always so here.
    private static readonly string[] Ignored =
    [
        "rw", "defaults", "default_permissions", "auto", "noauto", "user", "nouser", "users", "owner", "nofail",
        "_netdev", "nosuid", "nodev", "exec", "noexec", "relatime", "noatime",
    ];

    private static readonly string[] Known =
    [
        "ro", "allow_other", "uid", "gid", "mode", "cache", "discard", "format", "growable", "nonempty", "snapshot",
        "offset", "size", "force_share", "locking", "allow_external", "threads", "transport", "pidfile", "log_file",
        "debug",
    ];

    /// <summary>Mounts.</summary>
    /// <param name="words">What stands after the verb.</param>
    public static async Task<int> RunAsync(string[] words)
    {
        using BackgroundProcess? background =
            words.Contains("--foreground") ? null : BackgroundProcess.Begin();
        MountArguments arguments = CommandLineReader.Parse<MountArguments>(words);
        MountRequest request = Prepare(arguments);
        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: true);
        request = request with { Secrets = secrets };
        try
        {
            if (arguments.Foreground || background is null)
            {
                return await MountServer.RunInForegroundAsync(request).ConfigureAwait(false);
            }

            foreach (string warning in background!.Mount(request))
            {
                Messages.Warn(warning);
            }

            return ExitCode.Done;
        }
        catch (CommandException e) when (MistypedVerb(arguments) is { } verb)
        {
            throw new CommandException($"{e.Message.TrimEnd('.')}. Did you mean 'imgmount {verb}'?", e, e.Detail);
        }
    }

    /// <summary>Checks the arguments and makes the request of them.</summary>
    internal static MountRequest Prepare(MountArguments arguments)
    {
        Apply(arguments);
        return Request(arguments);
    }

    private static MountRequest Request(MountArguments arguments)
    {
        ImageRequest image = Arguments.Image(arguments, "mount") with
        {
            Overlay = arguments.Snapshot,
            FatRefresh = arguments.FatRefresh,
        };
        string mountPoint = arguments.MountPoint is null && MistypedVerb(arguments) is { } verb
            ? throw new UsageException($"there is no command '{arguments.Source}'", $"Did you mean '{verb}'?")
            : Arguments.Required(arguments.MountPoint, "MOUNTPOINT", "mount");
        Arguments.NoMore(arguments.Rest, "mount");
        if (arguments.Growable && arguments.ReadOnly)
        {
            throw new UsageException("--growable and --read-only contradict each other");
        }

        if (arguments.Threads is < 1 or > 64)
        {
            throw new UsageException($"--threads {arguments.Threads} is out of range", "It takes 1 to 64.");
        }

        return new MountRequest
        {
            Image = image,
            MountPoint = Path.GetFullPath(mountPoint),
            ReadOnly = arguments.ReadOnly,
            Cache = Arguments.Choice(arguments.Cache, "cache", CacheMode.Writeback),
            Discard = Arguments.Choice(arguments.Discard, "discard", DiscardMode.Unmap) == DiscardMode.Unmap,
            Growable = arguments.Growable,
            AllowOther = arguments.AllowOther,
            NonEmpty = arguments.NonEmpty,
            Uid = arguments.Uid,
            Gid = arguments.Gid,
            Mode = Arguments.Mode(arguments.Mode),
            Transport = Arguments.Choice(arguments.Transport, "transport", FuseTransportKind.Auto),
            Threads = arguments.Threads ?? 0,
            PidFile = arguments.PidFile is null ? null : Path.GetFullPath(arguments.PidFile),
            LogFile = arguments.LogFile is null ? null : Path.GetFullPath(arguments.LogFile),
            Debug = arguments.Debug,
        };
    }

    /// <summary>The verb that SOURCE probably is, when there is no such image.</summary>
    private static string? MistypedVerb(MountArguments arguments) =>
        arguments.Source is { Length: > 2 } source && !arguments.ImageOpts
            && !source.Contains('/') && !source.Contains(':') && !File.Exists(source)
            ? NearestName.Find(source, CommandLineReader.Verbs.Select(v => v.Verb))
            : null;

    /// <summary>Merges -o into the arguments; options of their own win.</summary>
    private static void Apply(MountArguments arguments)
    {
        foreach (string option in arguments.MountOptions.SelectMany(o => o.Split(',')))
        {
            int equals = option.IndexOf('=', StringComparison.Ordinal);
            string key = (equals < 0 ? option : option[..equals]).Replace('-', '_');
            string? value = equals < 0 ? null : option[(equals + 1)..];
            if (key.Length == 0 || Ignored.Contains(key) || key.StartsWith("x_", StringComparison.Ordinal)
                || key.StartsWith("comment", StringComparison.Ordinal))
            {
                continue;
            }

            if (value is null ? !ApplyFlag(arguments, key) : !ApplyValue(arguments, key, value))
            {
                throw Unknown(option, key, value);
            }
        }
    }

    private static bool ApplyFlag(MountArguments arguments, string key) => key switch
    {
        "ro" or "read_only" => arguments.ReadOnly = true,
        "allow_other" => arguments.AllowOther = true,
        "growable" => arguments.Growable = true,
        "nonempty" => arguments.NonEmpty = true,
        "snapshot" => arguments.Snapshot = true,
        "force_share" => arguments.ForceShare = true,
        "allow_external" => arguments.AllowExternal = true,
        "spool" => arguments.Spool = true,
        "debug" => arguments.Debug = true,
        "discard" => (arguments.Discard ??= "unmap").Length > 0,
        _ => false,
    };

    private static bool ApplyValue(MountArguments arguments, string key, string value)
    {
        switch (key)
        {
            case "uid":
                arguments.Uid ??= Id(key, value);
                return true;
            case "gid":
                arguments.Gid ??= Id(key, value);
                return true;
            case "threads":
                arguments.Threads ??= (int)Math.Min(Id(key, value), int.MaxValue);
                return true;
            case "mode":
                arguments.Mode ??= value;
                return true;
            case "cache":
                arguments.Cache ??= value;
                return true;
            case "discard":
                arguments.Discard ??= value;
                return true;
            case "format":
                arguments.Format ??= value;
                return true;
            case "offset":
                arguments.Offset ??= value;
                return true;
            case "size":
                arguments.Size ??= value;
                return true;
            case "locking":
                arguments.Locking ??= value;
                return true;
            case "transport":
                arguments.Transport ??= value;
                return true;
            case "pidfile":
                arguments.PidFile ??= value;
                return true;
            case "log_file":
                arguments.LogFile ??= value;
                return true;
            default:
                return false;
        }
    }

    private static uint Id(string key, string value) =>
        uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out uint id)
            ? id
            : throw new UsageException($"-o {key}={value} is not a number");

    private static UsageException Unknown(string option, string key, string? value)
    {
        if (Known.Contains(key))
        {
            return new(value is null ? $"-o {option} needs a value" : $"-o {key} takes no value");
        }

        string? nearest = NearestName.Find(key, Known);
        return new($"there is no mount option '{key}'", nearest is null ? null : $"Did you mean '{nearest}'?");
    }
}
