using System.Globalization;
using ImageMount.Fuse.Mount;

namespace ImageMount.Cli.Output;

/// <summary>Who keeps a mount busy, in words.</summary>
public static class Holders
{
    /// <summary>"bash (pid 12): working directory /mnt/x".</summary>
    public static string Describe(MountHolder holder)
    {
        string who = holder.Pid == 0
            ? holder.Name
            : string.Create(CultureInfo.InvariantCulture, $"{holder.Name} (pid {holder.Pid})");
        string how = holder.How == "cwd" ? "working directory" : holder.How;
        return $"{who}: {how} {holder.Path}";
    }
}
