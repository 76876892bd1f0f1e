using System.Buffers.Binary;
using ImageMount.Fuse.Protocol;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>Every row of the opcode table: its literal conversation, and everything that can be wrong with its
/// requests.</summary>
public sealed class OpcodeTests
{
    public static TheoryData<uint, string> Rows()
    {
        var data = new TheoryData<uint, string>();
        foreach (FuseOperation row in FuseOperation.All)
        {
            data.Add((uint)row.Opcode, row.Name);
        }
        return data;
    }

    [Fact]
    public void Table_every_row_has_a_wire_case_and_no_case_lacks_a_row()
    {
        Assert.Equal(
            FuseOperation.All.Select(r => (uint)r.Opcode).Order(), WireCases.All.Keys.Order());
    }

    [Fact]
    public void Table_names_are_those_of_the_kernel()
    {
        Assert.All(FuseOperation.All, row => Assert.Equal("FUSE_" + row.Name, row.Opcode.ToString()));
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Row_well_formed_request_gives_the_literal_reply(uint opcode, string name)
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        WireCase wire = WireCases.All[opcode];
        fileSystem.Calls.Clear();

        byte[]? reply = harness.Send(opcode, 5, WireBytes.Parse(wire.Body));

        Assert.Equal(wire.Call, fileSystem.LastCall);
        if (wire.Error == 0 && wire.Reply is null)
        {
            Assert.True(reply is null, $"{name} must not be answered");
            return;
        }
        Assert.NotNull(reply);
        byte[] payload = wire.Reply is null ? [] : WireBytes.Parse(wire.Reply);
        byte[] expected =
            [.. WireBytes.Parse($"4:{16 + payload.Length} 4:{-wire.Error} 8:{harness.LastUnique}"), .. payload];
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(reply));
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Row_every_truncated_body_is_refused_or_still_well_formed(uint opcode, string name)
    {
        FuseOperation row = FuseOperation.All.Single(r => (uint)r.Opcode == opcode);
        byte[] body = WireBytes.Parse(WireCases.All[opcode].Body);
        for (int length = 0; length < body.Length; length++)
        {
            var fileSystem = new RecordingFileSystem();
            using var harness = new WireHarness(fileSystem);
            fileSystem.Calls.Clear();
            byte[]? reply = harness.Send(opcode, 5, body[..length]);
            bool silent = (row.Traits & FuseOperationTraits.NoReply) != 0;
            if (length < row.MinimumBody)
            {
                Assert.Empty(fileSystem.Calls);
                Assert.True(silent ? reply is null : reply is not null, $"{name} cut to {length}");
                Assert.True(silent || WireHarness.Error(reply!) == -Errno.EINVAL, $"{name} cut to {length}");
            }
            AssertWellFormed(reply, harness.LastUnique);
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Row_name_without_end_is_refused(uint opcode, string name)
    {
        FuseOperation row = FuseOperation.All.Single(r => (uint)r.Opcode == opcode);
        if ((row.Traits & (FuseOperationTraits.Name | FuseOperationTraits.TwoNames)) == 0)
        {
            return; // a row without a name; the others are the point
        }
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        byte[] body = [.. WireBytes.Parse(WireCases.All[opcode].Body).Select(b => b)];
        int fixedPart = Math.Max(row.MinimumBody, opcode == 21 ? 16 : 0);
        byte[] unterminated = [.. body[..fixedPart], .. "name"u8];
        byte[] empty = [.. body[..fixedPart], 0, 0, 0];
        byte[] slash = [.. body[..fixedPart], .. "a/b\0c\0"u8];
        byte[] endless = [.. body[..fixedPart], .. Enumerable.Repeat((byte)'n', 5000), 0, .. "x\0"u8];
        fileSystem.Calls.Clear();

        Assert.Equal(-Errno.EINVAL, WireHarness.Error(harness.Send(opcode, 5, unterminated)!));
        Assert.Equal(-Errno.EINVAL, WireHarness.Error(harness.Send(opcode, 5, empty)!));
        Assert.Equal(-Errno.EINVAL, WireHarness.Error(harness.Send(opcode, 5, slash)!));
        Assert.Equal(-Errno.ENAMETOOLONG, WireHarness.Error(harness.Send(opcode, 5, endless)!));
        Assert.True(fileSystem.Calls.Count == 0, $"{name} reached the file system");
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Row_before_INIT_is_refused(uint opcode, string name)
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem, initialize: false);
        FuseOperation row = FuseOperation.All.Single(r => (uint)r.Opcode == opcode);
        byte[]? reply = harness.Send(opcode, 5, WireBytes.Parse(WireCases.All[opcode].Body));
        if ((row.Traits & FuseOperationTraits.Control) == 0)
        {
            int expected = opcode == 26 ? 0 : -Errno.EIO;
            Assert.True(WireHarness.Error(reply!) == expected, name);
            Assert.Equal(opcode == 26 ? "init" : "", fileSystem.LastCall);
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Row_exception_of_the_file_system_becomes_its_errno(uint opcode, string name)
    {
        WireCase wire = WireCases.All[opcode];
        if (wire.Call.Length == 0 || wire.Reply is null)
        {
            return; // does not reach the file system, or is not answered
        }
        (Exception Thrown, int Errno)[] table =
        [
            (new FuseException(Errno.ENOSPC), Errno.ENOSPC),
            (new OperationCanceledException(), Errno.EINTR),
            (new ErrnoException("pread", null, Errno.EUCLEAN), Errno.EUCLEAN),
            (new InvalidOperationException("a bug"), Errno.EIO),
        ];
        foreach ((Exception thrown, int errno) in table)
        {
            var fileSystem = new RecordingFileSystem();
            using var harness = new WireHarness(fileSystem);
            fileSystem.Throws = thrown;
            byte[] reply = harness.Send(opcode, 5, WireBytes.Parse(wire.Body))!;
            Assert.True(WireHarness.Error(reply) == -errno, $"{name}: {thrown.GetType().Name}");
            Assert.Equal(thrown is InvalidOperationException ? 1 : 0, harness.Warnings.Count);
        }
    }

    [Theory]
    [InlineData(5u)]
    [InlineData(15u)]
    [InlineData(16u)]
    public void Row_count_beyond_what_was_asked_for_is_answered_EIO(uint opcode)
    {
        var fileSystem = new RecordingFileSystem { Answers = 5000 };
        using var harness = new WireHarness(fileSystem);
        byte[] reply = harness.Send(opcode, 5, WireBytes.Parse(WireCases.All[opcode].Body))!;
        Assert.Equal(-Errno.EIO, WireHarness.Error(reply));
        Assert.Single(harness.Warnings);
    }

    [Fact]
    public void Unknown_opcode_is_answered_ENOSYS()
    {
        using var harness = new WireHarness(new RecordingFileSystem());
        foreach (uint opcode in (uint[])[0, 7, 19, 54, 4096, 0x1A000000, uint.MaxValue])
        {
            Assert.Equal(-Errno.ENOSYS, WireHarness.Error(harness.Send(opcode, 1, new byte[64])!));
        }
    }

    [Fact]
    public void Header_shorter_than_itself_is_dropped()
    {
        using var harness = new WireHarness(new RecordingFileSystem());
        for (int length = 0; length < 40; length++)
        {
            Assert.Null(harness.SendRaw(WireBytes.Request(3, 8, 1, [])[..length]));
        }
        Assert.Equal(40, harness.Warnings.Count);
    }

    [Fact]
    public void Header_whose_length_is_not_the_messages_is_answered_EIO()
    {
        using var harness = new WireHarness(new RecordingFileSystem());
        foreach (uint wrong in (uint[])[0, 39, 55, 57, 0x7FFFFFFF, uint.MaxValue])
        {
            byte[] request = WireBytes.Request(3, 8, 1, new byte[16]);
            BinaryPrimitives.WriteUInt32LittleEndian(request, wrong);
            Assert.Equal(-Errno.EIO, WireHarness.Error(harness.SendRaw(request)!));
        }
    }

    [Fact]
    public void Extensions_behind_the_body_are_left_out_of_it()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        byte[] request = WireBytes.Request(16, 8, 5, WireBytes.Parse(
            "8:99 8:0 4:5 4:0 8:0 4:0 4:0 'hello' z16"));
        request[36] = 2; // total_extlen: two units of eight bytes
        Assert.Equal(0, WireHarness.Error(harness.SendRaw(request)!));
        Assert.StartsWith("write 5 99 0 hello", fileSystem.LastCall, StringComparison.Ordinal);
        request[36] = 200; // more than there is
        Assert.Equal(-Errno.EIO, WireHarness.Error(harness.SendRaw(request)!));
    }

    [Theory]
    [InlineData("8:99 8:-1 4:4096 4:0 8:0 4:0 4:0")]                   // a negative offset
    [InlineData("8:99 8:0x7fffffffffffffff 4:4096 4:0 8:0 4:0 4:0")]   // an end beyond 2^63
    [InlineData("8:99 8:0 4:0xffffffff 4:0 8:0 4:0 4:0")]              // more than any buffer holds
    public void Read_of_an_impossible_range_is_answered_EINVAL(string body)
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        fileSystem.Calls.Clear();
        Assert.Equal(-Errno.EINVAL, WireHarness.Error(harness.Send(15, 5, WireBytes.Parse(body))!));
        Assert.Empty(fileSystem.Calls);
    }

    [Fact]
    public void Write_that_promises_more_data_than_it_brings_is_answered_EINVAL()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        fileSystem.Calls.Clear();
        byte[] reply = harness.Send(16, 5, WireBytes.Parse("8:99 8:0 4:6 4:0 8:0 4:0 4:0 'hello'"))!;
        Assert.Equal(-Errno.EINVAL, WireHarness.Error(reply));
        Assert.Empty(fileSystem.Calls);
    }

    [Fact]
    public void Batch_forget_that_promises_more_than_it_brings_does_what_is_there()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        fileSystem.Calls.Clear();
        Assert.Null(harness.Send(42, 0, WireBytes.Parse("4:0xffffffff 4:0 8:11 8:1 8:12")));
        Assert.Equal(["forget 11 1"], fileSystem.Calls);
    }

    [Theory]
    [InlineData(22u, "4:0 4:0 'user.x' 0", "4:5 4:0", 0)]
    [InlineData(22u, "4:3 4:0 'user.x' 0", "", Errno.ERANGE)]
    [InlineData(23u, "4:0 4:0", "4:7 4:0", 0)]
    [InlineData(23u, "4:6 4:0", "", Errno.ERANGE)]
    public void Xattr_size_query_and_small_buffer(uint opcode, string body, string payload, int error)
    {
        using var harness = new WireHarness(new RecordingFileSystem());
        byte[] reply = harness.Send(opcode, 5, WireBytes.Parse(body))!;
        Assert.Equal(-error, WireHarness.Error(reply));
        Assert.Equal(Convert.ToHexString(WireBytes.Parse(payload)), Convert.ToHexString(reply.AsSpan(16)));
    }

    [Fact]
    public void Readdir_into_little_room_answers_whole_entries_only()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem);
        byte[] reply = harness.Send(28, 5, WireBytes.Parse("8:99 8:0 4:63 4:0 8:0 4:0 4:0"))!;
        Assert.Equal("readdir 5 99 0 False True False", fileSystem.LastCall);
        Assert.Equal(16 + 32, reply.Length);
    }

    [Fact]
    public void Garbage_never_harms()
    {
        const int Seed = 20261121;
        var random = new Random(Seed);
        uint[] opcodes = [.. FuseOperation.All.Select(r => (uint)r.Opcode).Where(o => o is not (26 or 38))];
        using var harness = new WireHarness(new RecordingFileSystem());
        for (int i = 0; i < 20_000; i++)
        {
            var body = new byte[random.Next(0, 200)];
            random.NextBytes(body);
            for (int k = 0; k < body.Length; k++)
            {
                // Small numbers reach further into the handlers than random ones.
                body[k] = random.Next(3) == 0 ? body[k] : (byte)0;
            }
            uint opcode = opcodes[random.Next(opcodes.Length)];
            byte[]? reply = harness.Send(opcode, (ulong)random.NextInt64(), body);
            Assert.True(IsWellFormed(reply, harness.LastUnique), $"seed {Seed}, request {i}, opcode {opcode}");
        }
        Assert.Equal(0, harness.Server.Counters().InFlight);
    }

    private static void AssertWellFormed(byte[]? reply, ulong unique) => Assert.True(IsWellFormed(reply, unique));

    private static bool IsWellFormed(byte[]? reply, ulong unique) =>
        reply is null
        || (reply.Length >= 16
            && BinaryPrimitives.ReadInt32LittleEndian(reply) == reply.Length
            && BinaryPrimitives.ReadUInt64LittleEndian(reply.AsSpan(8)) == unique
            && WireHarness.Error(reply) is <= 0 and > -4096
            && (WireHarness.Error(reply) == 0 || reply.Length == 16));
}
