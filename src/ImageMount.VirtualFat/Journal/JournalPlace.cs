using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// Where journals go: a folder that outlives restarts, because what is kept there may be the only copy.
/// /var/lib/imgmount/journals for root, $XDG_STATE_HOME/imgmount/journals (else ~/.local/state/…) for others.
/// </summary>
internal static class JournalPlace
{
    private const string Extension = ".journal";
    private const int MaxStem = 60;

    /// <summary>The folder, unless the user names one.</summary>
    public static string DefaultFolder()
    {
        if (SysUser.EffectiveId == 0)
        {
            return "/var/lib/imgmount/journals";
        }

        string? state = Environment.GetEnvironmentVariable("XDG_STATE_HOME");
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        return Path.Join(
            string.IsNullOrEmpty(state) || !Path.IsPathRooted(state) ? Path.Join(home, ".local", "state") : state,
            "imgmount", "journals");
    }

    /// <summary>A name for a new journal, after its folder's.</summary>
    public static string NewPath(string directory, string folder)
    {
        string stem = new([.. Path.GetFileName(folder.TrimEnd('/'))
            .Where(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.').Take(MaxStem)]);
        stem = stem.Length == 0 ? "folder" : stem;
        string number = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(6));
        return Path.GetFullPath(Path.Join(directory, $"{stem}-{number}{Extension}"));
    }

    /// <summary>
    /// Tries out at once whether a journal can be made: when it is needed is too late to be told, because what it is to
    /// keep is only in memory then.
    /// </summary>
    /// <exception cref="BlockException">It cannot.</exception>
    public static void RequireWritable(string directory)
    {
        const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        string probe = Path.Join(directory, $".probe-{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(6))}");
        try
        {
            if (!OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(directory, Owner);
            }

            using FileStream file = File.Create(probe, 1, FileOptions.DeleteOnClose);
            file.WriteByte(0);
            file.Flush(flushToDisk: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                BlockErrorKind.IoError, $"no journal can be kept in '{directory}': {e.Message.TrimEnd('.')}", e)
            {
                Hint = "Name another folder for it: journal-dir=DIR. Without one a write could be lost.",
            };
        }
    }

    /// <summary>
    /// Looks for journals of a folder that earlier processes left. One of which everything is in the folder is
    /// removed; one that holds more must not be passed over.
    /// </summary>
    /// <exception cref="BlockException">There is one that holds what is not in the folder.</exception>
    public static void CheckLeft(string directory, string folder, Action<string> warn)
    {
        if (!Directory.Exists(directory))
        {
            return;
        }

        foreach (string path in Directory.EnumerateFiles(directory, "*" + Extension))
        {
            // One that is being made, or whose maker died before it had its name: it holds nothing yet.
            if (Path.GetFileName(path).StartsWith('.'))
            {
                continue;
            }

            JournalFile file;
            try
            {
                file = JournalFile.Open(path);
            }
            catch (BlockException e)
            {
                // Somebody's who works with it, of another user, damaged; or never saved before its maker died.
                if (JournalFile.RemoveUnsaved(path) || e.Kind is BlockErrorKind.InUse or BlockErrorKind.NotFound)
                {
                    continue;
                }

                warn(
                    e.Kind == BlockErrorKind.PermissionDenied
                        ? $"the journal '{path}' is another user's and cannot be read. If it belongs to '{folder}', "
                            + "what it holds is not there"
                        : $"{e.Describe()}. If it belongs to '{folder}', what it holds is not there");

                continue;
            }

            using (file)
            {
                if (file.Folder != folder)
                {
                    continue;
                }

                if (!file.IsApplied)
                {
                    throw new BlockException(
                        BlockErrorKind.InUse, $"what was written to '{folder}' before is still in the journal '{path}'")
                    {
                        Hint = $"Apply it: imgmount commit '{path}'; or go on with it: journal={path}; or "
                            + "remove that file.",
                    };
                }

                file.Remove();
                warn($"the journal '{path}', all of which is in '{folder}', was removed");
            }
        }
    }
}
