using ImageMount.Cli.Background;
using ImageMount.Fuse;

namespace ImageMount.Mounting.Tests.Cli;

public sealed class StateTests
{
    [Fact]
    public void A_note_is_read_as_it_was_written_and_damaged_ones_do_not_count()
    {
        using var folder = new TempDir();
        var states = new StateDirectory(folder.File("state"));
        Assert.Empty(states.ReadAll());
        var state = new MountState
        {
            Pid = 12,
            StartTime = ulong.MaxValue,
            Source = "a \"b\"\n",
            MountPoint = "/mnt/ü",
            Failure = "why",
            Started = DateTimeOffset.UtcNow,
        };
        states.Write(state);
        states.Write(state with { Pid = 13 });
        File.WriteAllText(states.FileOf(14), "{\"Pid\":");
        File.WriteAllText(states.FileOf(16), "{\"pid\":1}");
        File.WriteAllText(states.FileOf(15), new string(' ', 300_000));

        Assert.Equal([12, 13], states.ReadAll().Select(s => s.Pid).Order());
        Assert.Equal(state, states.Read(12));
        states.Remove(12);
        Assert.Null(states.Read(12));
        states.Remove(12);
    }

    [Fact]
    public void What_travels_between_our_processes_arrives_as_it_was_sent()
    {
        var request = new MountRequest
        {
            Image = new ImageRequest
            {
                Source = "ü\u0001\"",
                IsOptions = true,
                Format = "raw",
                ForceShare = true,
                Locking = LockingMode.Off,
                AllowExternal = true,
                Spool = true,
                Offset = "1k",
                Size = "2M",
                Overlay = true,
            },
            MountPoint = "/m",
            ReadOnly = true,
            Cache = CacheMode.Unsafe,
            Discard = false,
            Growable = true,
            AllowOther = true,
            NonEmpty = true,
            Uid = uint.MaxValue,
            Gid = 0,
            Mode = 0x1A4,
            Transport = FuseTransportKind.Uring,
            Threads = 3,
            PidFile = "p",
            LogFile = "l",
            Debug = true,
        };
        Assert.Equal(request, ThereAndBack(request));
        var plain = new MountRequest { Image = new ImageRequest { Source = "" }, MountPoint = "" };
        Assert.Equal(plain, ThereAndBack(plain));

        var report = new ReadyReport { IsReady = true, Error = "e", Detail = "d\n", Warnings = ["a", "b"] };
        ReadyReport read = CliJson.ReadReport(CliJson.Write(report));
        Assert.Equal(report.Warnings, read.Warnings);
        Assert.Equal(report with { Warnings = [] }, read with { Warnings = [] });
    }

    [Fact]
    public void A_directory_that_is_a_link_is_not_trusted()
    {
        using var folder = new TempDir();
        Directory.CreateDirectory(folder.File("elsewhere"));
        File.CreateSymbolicLink(folder.File("state"), folder.File("elsewhere"));
        Assert.Throws<IOException>(() => new StateDirectory(folder.File("state")).Write(new MountState { Pid = 1 }));
    }

    [Fact]
    public void A_process_is_known_by_number_and_start()
    {
        ulong mine = ServerProcess.StartTimeOf(Environment.ProcessId);
        Assert.NotEqual(0UL, mine);
        Assert.Equal(0UL, ServerProcess.StartTimeOf(int.MaxValue));
        Assert.True(ServerProcess.IsRunning(new MountState { Pid = Environment.ProcessId, StartTime = mine }));
        Assert.False(ServerProcess.IsRunning(new MountState { Pid = Environment.ProcessId, StartTime = mine + 1 }));

        // Somebody else's number: nothing to wait for.
        ServerProcess.WaitForEnd(
            new MountState { Pid = Environment.ProcessId, StartTime = mine + 1 }, 1, () => Assert.Fail("waited"));
    }

    /// <summary>Through the pipe; secrets have tests of their own.</summary>
    private static MountRequest ThereAndBack(MountRequest request)
    {
        using WipedBuffer text = CliJson.Write(request);
        return CliJson.ReadRequest(text.Written) with { Secrets = request.Secrets };
    }
}
