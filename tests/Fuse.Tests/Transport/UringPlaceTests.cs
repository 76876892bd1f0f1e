using System.Buffers.Binary;
using ImageMount.Fuse.Protocol;
using ImageMount.Fuse.Tests.Wire;
using ImageMount.Fuse.Transport;
using ImageMount.Fuse.Transport.Uring;

namespace ImageMount.Fuse.Tests.Transport;

/// <summary>A request as the kernel puts it into a ring's entry, and the reply as it wants it back: literal bytes.</summary>
public sealed class UringPlaceTests : IDisposable
{
    private const int Payload = WireHarness.Capacity + 4096;
    private readonly FuseBuffer _buffer = new(Payload);
    private readonly UringPlace _place;

    public UringPlaceTests() => _place = new UringPlace(null!, 3, 1, _buffer);

    public void Dispose() => _place.Request.Dispose();

    public static TheoryData<uint> Opcodes() => [.. WireCases.All.Where(row => row.Value.Reply is not null && row.Key != 26)
        .Select(row => row.Key)];

    [Theory]
    [MemberData(nameof(Opcodes))]
    public void The_same_request_gets_the_same_answer_whichever_way_it_came(uint opcode)
    {
        byte[] request = WireBytes.Request(opcode, 102, 5, WireBytes.Parse(WireCases.All[opcode].Body));
        byte[] expected;
        using (var plain = new WireHarness(new RecordingFileSystem()))
        {
            expected = plain.SendRaw(request)!;
        }

        // However many of the bytes count as the op's own header, they are one request again.
        foreach (int size in (int[])[0, Math.Min(8, request.Length - 40), Math.Min(128, request.Length - 40)])
        {
            using var harness = new WireHarness(new RecordingFileSystem());
            _buffer.Whole.Span.Fill(0xA5);
            Put(request, size);
            Assert.True(_place.TryAssemble());
            Assert.Equal(opcode, (uint)_place.Opcode);
            Assert.Equal(request, _buffer.Whole.Slice(_place.Start, _place.Length).ToArray());
            Assert.True(_place.Process(harness.Server));
            Assert.Equal(expected, Reply());
        }
    }

    [Fact]
    public void Data_of_a_write_stays_on_its_page_boundary()
    {
        Put(WireBytes.Request(16, 102, 5, WireBytes.Parse("8:99 8:0 4:5 4:0 8:0 4:0 4:0 'hello'")), 40);
        Assert.True(_place.TryAssemble());
        Assert.Equal(FuseBuffer.PayloadStart - 80, _place.Start);
        Assert.Equal("hello"u8.ToArray(), _buffer.Whole.Slice(FuseBuffer.PayloadStart, 5).ToArray());
    }

    [Fact]
    public void Who_is_not_answered_gets_EIO()
    {
        Put(WireBytes.Request(3, 102, 5, WireBytes.Parse("4:0 4:0 8:0")), 16);
        Assert.True(_place.TryAssemble());
        Assert.Equal(WireBytes.Parse("4:16 4:-5 8:102"), Reply());
    }

    [Theory]
    [InlineData(39u, 0u)]                          // shorter than a header
    [InlineData(40u, 1u)]                          // payload outside the length
    [InlineData(40u + 129, 0u)]                    // an op header larger than its room
    [InlineData(uint.MaxValue, 0u)]
    [InlineData(uint.MaxValue, uint.MaxValue)]
    [InlineData(40u + Payload + 1, Payload + 1u)]  // a payload larger than its room
    public void Lengths_that_contradict_each_other_are_refused_and_can_be_answered(uint length, uint payload)
    {
        Put(WireBytes.Request(3, 102, 5, []), 0);
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer.Whole.Span, length);
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer.Whole.Span[272..], payload);
        Assert.False(_place.TryAssemble());
        Assert.Equal(WireBytes.Parse("4:16 4:-5 8:102"), Reply());
    }

    [Theory]
    [InlineData(2, 2, 2, 2, "0 0|1 1")]
    [InlineData(2, 2, 4, 3, "0 0 0 2|1 1 1 3")]       // two of four processors run: the others' queues have an entry each
    [InlineData(2, 4, 4, 2, "0 0 2 2|1 1 3 3")]       // confined to two of four: who asks may run on any
    [InlineData(1, 1, 1, 1, "0")]
    [InlineData(4, 2, 2, 1, "0|1")]                   // never a queue that the kernel does not have
    public void Every_possible_processor_has_a_queue(int usable, int online, int possible, int depth, string expected)
    {
        Assert.Equal(expected, string.Join('|', UringTransport.Spread(usable, online, possible, depth).Select(q => string.Join(' ', q))));
    }

    [Fact]
    public void More_than_64_processors_share_threads()
    {
        int[][] queues = UringTransport.Spread(100, 100, 128, 2);
        Assert.Equal(64, queues.Length);
        Assert.Equal(Enumerable.Range(0, 128), queues.SelectMany(q => q).Distinct().Order());
    }

    [Theory]
    [InlineData("0-1\n", 2)]
    [InlineData("0\n", 1)]
    [InlineData("0,2-3\n", 4)]
    [InlineData("", 0)]
    [InlineData("nonsense", 0)]
    [InlineData("0-99999999999", 0)]
    public void Lists_of_processors_are_read(string text, int count)
    {
        Assert.Equal(count, UringTransport.ParseProcessors(text));
    }

    // What the kernel does: struct fuse_uring_req_header and the payload, each in its place.
    private void Put(byte[] request, int opHeader)
    {
        Span<byte> memory = _buffer.Whole.Span;
        request.AsSpan(0, 40).CopyTo(memory);
        request.AsSpan(40, opHeader).CopyTo(memory[128..]);
        request.AsSpan(40 + opHeader).CopyTo(memory[4096..]);
        BinaryPrimitives.WriteUInt64LittleEndian(memory[264..], 77); // commit_id
        BinaryPrimitives.WriteUInt32LittleEndian(memory[272..], (uint)(request.Length - 40 - opHeader));
    }

    private byte[] Reply()
    {
        ReadOnlySpan<byte> memory = _buffer.Whole.Span;
        int payload = BinaryPrimitives.ReadInt32LittleEndian(memory[272..]);
        Assert.Equal(77ul, _place.Commit);
        return [.. memory[..16], .. memory.Slice(4096, payload)];
    }
}
