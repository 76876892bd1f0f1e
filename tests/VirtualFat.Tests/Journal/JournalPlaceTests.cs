using ImageMount.VirtualFat.Journal;

namespace ImageMount.VirtualFat.Tests.Journal;

/// <summary>Journals that others left, and those that others are making.</summary>
public sealed class JournalPlaceTests
{
    [Fact]
    public void A_journal_that_is_being_made_is_not_taken_for_a_left_one()
    {
        using var dir = new TempDir();
        string path = dir.File("folder-1.journal");
        var seen = new List<string>();
        var warnings = new List<string>();
        var file = new JournalFile(path, "/folder", 1 << 20)
        {
            Hook = call =>
            {
                seen.Add(call);
                JournalPlace.CheckLeft(dir.Path, "/folder", warnings.Add);
            },
        };
        using (var journal = new JournalBlocks(0, file))
        {
            journal.Write(0, new byte[512]);
            journal.Save([], "", isApplied: false);
            Assert.True(File.Exists(path));
        }

        Assert.Contains("open, done", seen);
        Assert.Empty(warnings);
        Assert.Throws<BlockException>(() => JournalPlace.CheckLeft(dir.Path, "/folder", warnings.Add));
        JournalPlace.CheckLeft(dir.Path, "/another", warnings.Add);
        Assert.Equal([path], Directory.GetFiles(dir.Path));
    }

    [Fact]
    public void What_was_never_saved_goes_what_is_applied_goes_and_what_is_damaged_is_told_of()
    {
        using var dir = new TempDir();
        string unsaved = dir.File("unsaved.journal");
        using (var journal = new JournalBlocks(0, new JournalFile(unsaved, "/folder", 1 << 20)))
        {
            journal.Write(0, new byte[512]);
        }

        string applied = dir.File("applied.journal");
        using (var journal = new JournalBlocks(0, new JournalFile(applied, "/folder", 1 << 20)))
        {
            journal.Save([], "", isApplied: true);
        }

        string damaged = dir.Write("damaged.journal", [1, 2, 3]);
        var warnings = new List<string>();
        JournalPlace.CheckLeft(dir.Path, "/folder", warnings.Add);
        Assert.Equal([damaged], Directory.GetFiles(dir.Path));
        Assert.Equal(2, warnings.Count);
        Assert.Contains(warnings, told => told.Contains(damaged, StringComparison.Ordinal));
    }

    [Fact]
    public void A_journal_that_was_removed_while_it_was_opened_is_not_gone_on_with()
    {
        using var dir = new TempDir();
        string path = dir.File("j.journal");
        var file = new JournalFile(path, "/folder", 1 << 20);
        using var journal = new JournalBlocks(0, file);
        journal.Save([], "", isApplied: true);
        file.Remove();
        var error = Assert.Throws<BlockException>(() => JournalFile.Open(path));
        Assert.Equal(BlockErrorKind.NotFound, error.Kind);
    }
}
