using ImageMount.Interop;
using ImageMount.VirtualFat.Journal;
using Microsoft.Win32.SafeHandles;
using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Journal;

/// <summary>
/// The process, or the machine, dies at every call that writes the journal. The machine loses any part of what was not
/// synced. Whoever opens the journal then finds what was saved last, or what was being saved: sectors that were not written
/// since as they were, others as they were or as they became, and never one that is called applied and is not.
/// </summary>
public sealed class JournalCrashTests(ITestOutputHelper output)
{
    private const int Sectors = 160;
    private const int SectorSize = JournalBlocks.SectorSize;

    [Theory]
    [InlineData(11, 0)]
    [InlineData(12, 16 << 10)]
    [InlineData(13, 64 << 20)]
    public void Dying_at_any_write(int seed, long memory)
    {
        seed = Seeds.Shift(seed);
        output.WriteLine($"seed {seed}");
        using var dir = new TempDir();
        int calls = 0;
        var run = new Run(dir.File("whole"), memory, seed, _ => calls++);
        run.Do();
        Assert.True(calls > 60, $"only {calls} calls");
        int opened = 0;
        for (int i = 0; i < calls; i += 2 + seed % 2)
        {
            int left = i;
            string path = dir.File($"dying-{i}");
            var dying = new Run(path, memory, seed, _ => Die(ref left));
            Assert.Throws<Applying.ApplyCrashTests.DiedException>(dying.Do);
            for (int losing = 0; losing < 3; losing++)
            {
                string copy = $"{path}-{losing}";
                File.WriteAllBytes(copy, losing == 0 ? dying.Now() : dying.AfterPowerLoss(new Random(i * 3 + losing)));
                opened += dying.Check(copy, $"seed {seed}, call {i}, loss {losing}") ? 1 : 0;
            }
        }

        Assert.True(opened > calls / 2, $"opened {opened} times");
    }

    [Fact]
    public void Saving_again_and_again_takes_no_more_room()
    {
        using var dir = new TempDir();
        string path = dir.File("j");
        var random = new Random(21);
        byte[] state = new byte[100_000];
        var journal = new JournalBlocks(0, new JournalFile(path, "/folder", 64 << 20));
        journal.Write(0, new byte[1 << 20]);
        journal.Save(state, "id", isApplied: false);
        long length = 0;
        for (int i = 0; i < 300; i++)
        {
            journal.Write(random.Next(256) * (long)JournalBlocks.BlockSize, new byte[SectorSize * 3]);
            if (i % 3 == 0)
            {
                journal.ClearFresh();
            }

            journal.Save(i % 2 == 0 ? state : null, "id", isApplied: false);
            if (i % 40 == 39)
            {
                journal.Dispose();
                journal = JournalBlocks.Load(0, JournalFile.Open(path));
            }

            length = i == 100 ? new FileInfo(path).Length : length;
        }

        journal.Dispose();
        Assert.InRange(length, 1 << 20, 2 << 20);
        Assert.True(new FileInfo(path).Length <= length, $"{length} bytes became {new FileInfo(path).Length}");
    }

    [Fact]
    public void A_full_journal_says_so_when_it_is_written_and_can_still_be_saved()
    {
        using var dir = new TempDir();
        using var journal = new JournalBlocks(0, new JournalFile(dir.File("j"), "/folder", 1 << 30), maxBlocks: 10);
        journal.Write(0, new byte[8 * JournalBlocks.BlockSize]);
        journal.Zero(8 * JournalBlocks.BlockSize, 2 * JournalBlocks.BlockSize);
        var error = Assert.Throws<BlockException>(() => journal.Write(1 << 20, new byte[SectorSize]));
        Assert.Equal(BlockErrorKind.NoSpace, error.Kind);
        Assert.Throws<BlockException>(() => journal.Zero(1 << 20, SectorSize));
        journal.Write(0, new byte[10 * JournalBlocks.BlockSize]);
        journal.Save([], "", isApplied: false);
        Assert.Equal(1L << 38, (long)JournalIndex.MaxBlocks * JournalBlocks.BlockSize);
    }

    [Fact]
    public void A_saving_that_fails_leaves_the_last_one_and_can_be_done_again()
    {
        using var dir = new TempDir();
        byte[] first = Filled(1);
        byte[] second = Filled(2);
        for (int failing = 0; failing < 10; failing++)
        {
            string path = dir.File($"j{failing}");
            int calls = -1000;
            var file = new JournalFile(path, "/folder", 1 << 20)
            {
                Hook = _ =>
                {
                    if (calls++ == failing)
                    {
                        throw new BlockException(BlockErrorKind.IoError, "no");
                    }
                },
            };
            using var journal = new JournalBlocks(0, file);
            journal.Write(0, first);
            journal.Save([1], "one", isApplied: false);
            journal.ClearFresh();
            journal.Save([1], "one", isApplied: true);
            journal.Write(0, second);
            calls = 0;
            Assert.Throws<BlockException>(() => journal.Save([2], "two", isApplied: false));
            byte[] now = ReadLocked(path);
            Check(dir.Write($"copy{failing}", now), orOld: true);
            journal.Write(4096, first);
            journal.Save([2], "two", isApplied: false);
            Check(dir.Write($"again{failing}", ReadLocked(path)), orOld: false);
        }

        static byte[] Filled(byte value)
        {
            byte[] bytes = new byte[JournalBlocks.BlockSize];
            Array.Fill(bytes, value);
            return bytes;
        }

        void Check(string path, bool orOld)
        {
            using var journal = JournalBlocks.Load(0, JournalFile.Open(path));
            byte[] read = new byte[JournalBlocks.BlockSize];
            journal.Read(0, read, out _);
            bool isNew = journal.File.ApplyId == "two";
            Assert.True(isNew || orOld);
            Assert.Equal(isNew ? second : first, read);
            Assert.Equal(isNew, journal.IsFresh(0, read.Length));
            Assert.Equal(isNew ? [2] : new byte[] { 1 }, journal.File.ReadState(out _));
        }
    }

    /// <summary>A file that is locked, which .NET would not open.</summary>
    private static byte[] ReadLocked(string path)
    {
        using SafeFileHandle file = SysOpen.TryOpen(path, SysOpen.O_RDONLY, out _)!;
        Assert.Equal(0, Stat.TryGet(file, out StatInfo info));
        byte[] bytes = new byte[info.Size];
        Assert.Equal(bytes.Length, SysPread.Read((int)file.DangerousGetHandle(), bytes, 0, 1, out _));
        return bytes;
    }

    private static void Die(ref int left)
    {
        if (left-- == 0)
        {
            throw new Applying.ApplyCrashTests.DiedException("journal");
        }
    }

    /// <summary>One life of a journal: the same for the same seed, whenever it ends.</summary>
    private sealed class Run(string path, long memory, int seed, Action<string> hook)
    {
        private readonly Random _random = new(seed);

        /// <summary>What each sector may hold: as saved last, and everything written since.</summary>
        private readonly List<byte>[] _possible = [.. Enumerable.Range(0, Sectors).Select(_ => new List<byte> { 0 })];
        private readonly byte[] _now = new byte[Sectors];

        /// <summary>What the folder has: what was not fresh at a saving; with a saving under way, either of two.</summary>
        private byte[] _applied = new byte[Sectors];
        private byte[]? _applying;
        private byte[] _synced = [];
        private bool _isSaved;

        public void Do()
        {
            using var journal = new JournalBlocks(memory, new JournalFile(path, "/folder", Sectors * SectorSize) { Hook = Call });
            for (int i = 0; i < 45; i++)
            {
                int first = _random.Next(Sectors);
                int count = Math.Min(Sectors - first, _random.Next(1, 20));
                byte value = _random.Next(5) == 0 ? (byte)0 : (byte)_random.Next(1, 256);
                if (i % 5 != 4)
                {
                    for (int sector = first; sector < first + count; sector++)
                    {
                        _possible[sector].Add(value);
                        _now[sector] = value;
                    }

                    byte[] bytes = new byte[count * SectorSize];
                    bytes.AsSpan().Fill(value);
                    if (value == 0)
                    {
                        journal.Zero((long)first * SectorSize, bytes.Length);
                    }
                    else
                    {
                        journal.Write((long)first * SectorSize, bytes);
                    }

                    continue;
                }

                if (_random.Next(2) == 0)
                {
                    _applying = [.. _now];
                    journal.ClearFresh();
                }

                journal.Save(_random.Next(3) == 0 ? [(byte)i, 7] : i < 5 ? [1, 7] : null, "id", isApplied: false);
                _isSaved = true;
                (_applied, _applying) = (_applying ?? _applied, null);
                for (int sector = 0; sector < Sectors; sector++)
                {
                    _possible[sector].Clear();
                    _possible[sector].Add(_now[sector]);
                }
            }
        }

        public byte[] Now() => File.Exists(path) ? ReadLocked(path) : [];

        /// <summary>Of what was written since the last sync, each sector by itself may be there or not.</summary>
        public byte[] AfterPowerLoss(Random random)
        {
            byte[] bytes = Now();
            for (int at = 0; at < bytes.Length; at += SectorSize)
            {
                if (random.Next(2) == 0)
                {
                    Span<byte> sector = bytes.AsSpan(at, Math.Min(SectorSize, bytes.Length - at));
                    sector.Clear();
                    _synced.AsSpan(Math.Min(at, _synced.Length), Math.Clamp(_synced.Length - at, 0, sector.Length)).CopyTo(sector);
                }
            }

            return bytes;
        }

        public bool Check(string copy, string context)
        {
            JournalFile file;
            try
            {
                file = JournalFile.Open(copy);
            }
            catch (BlockException) when (!_isSaved)
            {
                return false;
            }

            using var journal = JournalBlocks.Load(memory, file);
            Assert.Equal(7, file.ReadState(out _)[1]);
            byte[] read = new byte[SectorSize];
            for (int sector = 0; sector < Sectors; sector++)
            {
                JournalSource source = journal.Read((long)sector * SectorSize, read, out int length);
                Assert.Equal(SectorSize, length);
                byte value = source == JournalSource.Below ? (byte)0 : read[0];
                Assert.False(read.AsSpan().ContainsAnyExcept(value) && source != JournalSource.Below, $"{context}: torn");
                Assert.True(_possible[sector].Contains(value), $"{context}: sector {sector} has {value}");
                Assert.True(
                    journal.IsFresh((long)sector * SectorSize, SectorSize) || value == _applied[sector]
                    || value == _applying?[sector],
                    $"{context}: sector {sector} has {value}, which the folder has not, and is called applied");
            }

            return true;
        }

        private void Call(string call)
        {
            if (call is "fdatasync, done" or "open, done")
            {
                _synced = ReadLocked(path);
            }

            hook(call);
        }
    }
}
