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
        const string LoopMounted = "loop device, mounted at ";
        return holder.How switch
        {
            "cwd" => $"{who}: working directory {holder.Path}",
            "loop device" => $"{who}: loop device on {holder.Path}",
            { } how when how.StartsWith(LoopMounted, StringComparison.Ordinal) =>
                $"{who}: loop device on {holder.Path}, mounted at {how[LoopMounted.Length..]}",
            { } how => $"{who}: {how} {holder.Path}",
        };
    }
}
