using ImageMount.Core.Options;
using ImageMount.VirtualFat.Journal;

namespace ImageMount.VirtualFat;

/// <summary>What programs around the driver may know of journals.</summary>
public static class FolderJournal
{
    /// <summary>True for a file that is the journal of a folder.</summary>
    public static bool IsJournal(string path) => JournalFile.LooksLikeOne(path);

    /// <summary>Options that open the folder of a journal to go on with it.</summary>
    /// <exception cref="Core.Block.BlockException">It is damaged, or in use.</exception>
    public static OptionMap OptionsFor(string path)
    {
        using JournalFile file = JournalFile.Open(path);
        var options = new OptionMap();
        options.Set("driver", "vvfat");
        options.Set("dir", file.Folder);
        options.Set("rw", "on");
        options.Set("journal", path);
        return options;
    }
}
