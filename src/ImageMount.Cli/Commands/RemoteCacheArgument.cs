using ImageMount.Core.Options;
using ImageMount.Filters.RemoteCache;

namespace ImageMount.Cli.Commands;

/// <summary>
/// Reads `--remote-cache DIR[,size=BYTES][,unversioned=TEXT]`; a comma in the folder's name is written twice.
/// </summary>
internal static class RemoteCacheArgument
{
    private static readonly string[] s_keys = ["size", "unversioned"];

    /// <summary>Null when the option is not given.</summary>
    /// <exception cref="UsageException">It cannot be understood.</exception>
    public static RemoteCacheSettings? Parse(string? text)
    {
        if (text is null)
        {
            return null;
        }

        string[] parts = [.. text.Replace(",,", "\0").Split(',').Select(part => part.Replace('\0', ','))];
        if (parts[0].Length == 0)
        {
            throw new UsageException("--remote-cache names no folder", "It takes DIR[,size=BYTES][,unversioned=TEXT].");
        }

        long limit = RemoteCacheSettings.DefaultLimit;
        string? unversioned = null;
        foreach (string part in parts.Skip(1))
        {
            string[] sides = part.Split('=', 2);
            switch (sides[0])
            {
                case "size" when sides.Length == 2:
                    limit = Arguments.Bytes(sides[1], "remote-cache size")!.Value;
                    break;
                case "unversioned" when sides is [_, { Length: > 0 }]:
                    unversioned = sides[1];
                    break;
                default:
                    throw Unknown(sides[0]);
            }
        }

        return limit >= RemoteCacheSettings.MinLimit
            ? new RemoteCacheSettings(Path.GetFullPath(parts[0]), limit, unversioned)
            : throw new UsageException($"--remote-cache size={limit} is too little", "It takes 1M or more.");
    }

    private static UsageException Unknown(string key)
    {
        string? nearest = s_keys.Contains(key) ? null : NearestName.Find(key, s_keys);
        return s_keys.Contains(key) ? new($"--remote-cache: '{key}' needs a value")
            : new($"--remote-cache does not know '{key}'", nearest is not null ? $"Did you mean '{nearest}'?"
                : "It takes DIR[,size=BYTES][,unversioned=TEXT]; a comma in the folder's name is written twice.");
    }
}
