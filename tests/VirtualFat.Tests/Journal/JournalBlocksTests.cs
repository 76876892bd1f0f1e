using ImageMount.VirtualFat.Journal;
using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Journal;

/// <summary>The journal beside a model, in memory and in its file, saved and gone on with.</summary>
public sealed class JournalBlocksTests(ITestOutputHelper output)
{
    private const int Sectors = 4000;
    private const int SectorSize = JournalBlocks.SectorSize;

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 40 << 10)]
    [InlineData(3, 64 << 20)]
    public void A_journal_remembers_what_was_written(int seed, long memory)
    {
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        using var dir = new TempDir();
        string path = dir.File("j");
        var journal = new JournalBlocks(memory, new JournalFile(path, "/folder", Sectors * SectorSize));
        byte[]?[] model = new byte[]?[Sectors];
        bool[] fresh = new bool[Sectors];
        for (int i = 0; i < 500; i++)
        {
            int first = random.Next(Sectors);
            int count = Math.Min(Sectors - first, random.Next(1, 40));
            switch (random.Next(12))
            {
                case < 7:
                    byte[] bytes = new byte[count * SectorSize];
                    random.NextBytes(bytes);
                    journal.Write((long)first * SectorSize, bytes);
                    for (int k = 0; k < count; k++)
                    {
                        model[first + k] = bytes[(k * SectorSize)..((k + 1) * SectorSize)];
                        fresh[first + k] = true;
                    }

                    break;
                case < 10:
                    journal.Zero((long)first * SectorSize, (long)count * SectorSize);
                    for (int k = 0; k < count; k++)
                    {
                        model[first + k] = new byte[SectorSize];
                        fresh[first + k] = true;
                    }

                    break;
                case 10:
                    Action undo = journal.ClearFresh();
                    if (random.Next(2) == 0)
                    {
                        undo();
                    }
                    else
                    {
                        Array.Clear(fresh);
                    }

                    break;
                default:
                    journal.Save(random.Next(2) == 0 ? [1, (byte)i] : null, "id", isApplied: false);
                    if (random.Next(2) == 0)
                    {
                        journal.Dispose();
                        journal = JournalBlocks.Load(memory, JournalFile.Open(path));
                        Assert.Equal("id", journal.File.ApplyId);
                    }

                    break;
            }

            Check(journal, model, fresh, random);
        }

        Assert.Equal(0, journal.UsedBytes % JournalBlocks.BlockSize);
        journal.Dispose();
    }

    [Fact]
    public void What_was_saved_is_there_although_its_places_would_be_free()
    {
        using var dir = new TempDir();
        string path = dir.File("j");
        byte[] first = new byte[JournalBlocks.BlockSize];
        Array.Fill(first, (byte)1);
        using (var journal = new JournalBlocks(0, new JournalFile(path, "/folder", 1 << 20)))
        {
            journal.Write(0, first);
            journal.Save([], "", isApplied: false);

            // Written over places that are free now, but that the saved index leads to: after a crash it still holds.
            journal.Zero(0, JournalBlocks.BlockSize);
            for (int i = 1; i < 100; i++)
            {
                journal.Write(i * JournalBlocks.BlockSize, new byte[JournalBlocks.BlockSize]);
            }
        }

        using var again = JournalBlocks.Load(0, JournalFile.Open(path));
        byte[] read = new byte[JournalBlocks.BlockSize];
        Assert.Equal(JournalSource.Journal, again.Read(0, read, out int length));
        Assert.Equal(read.Length, length);
        Assert.Equal(first, read);
    }

    [Fact]
    public void Its_file_is_its_users_alone_and_cannot_be_opened_twice()
    {
        using var dir = new TempDir();
        string path = Path.Join(dir.File("new"), "j");
        using var journal = new JournalBlocks(0, new JournalFile(path, "/folder", 1 << 20));
        journal.Write(0, new byte[512]);
        journal.Save([], "", isApplied: false);
        Assert.Equal("600", Support.Mtools.Run("stat", "-c", "%a", path).Trim());
        var error = Assert.Throws<BlockException>(() => JournalFile.Open(path));
        Assert.Equal(BlockErrorKind.InUse, error.Kind);
    }

    private static void Check(JournalBlocks journal, byte[]?[] model, bool[] fresh, Random random)
    {
        int first = random.Next(Sectors);
        int count = Math.Min(Sectors - first, random.Next(1, 60));
        long offset = (long)first * SectorSize + random.Next(SectorSize);
        long end = (long)(first + count) * SectorSize;
        byte[] buffer = new byte[end - offset];
        Assert.Equal(Enumerable.Range(first, count).All(sector => model[sector] is not null),
            journal.Covers((long)first * SectorSize, (long)count * SectorSize));
        Assert.Equal(fresh.AsSpan(first, count).Contains(true),
            journal.IsFresh((long)first * SectorSize, (long)count * SectorSize));
        while (offset < end)
        {
            Span<byte> part = buffer.AsSpan(0, (int)(end - offset));
            JournalSource source = journal.Read(offset, part, out int length);
            Assert.InRange(length, 1, part.Length);
            for (int i = 0; i < length; i++)
            {
                byte[]? sector = model[(offset + i) / SectorSize];
                Assert.Equal(source == JournalSource.Below, sector is null);
                if (sector is not null && sector[(offset + i) % SectorSize] != part[i])
                {
                    Assert.Fail($"byte {offset + i} differs");
                }
            }

            offset += length;
        }
    }
}
