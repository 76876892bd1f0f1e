using ImageMount.Fuse.Protocol;
using ImageMount.Fuse.Transport;
using ImageMount.TestSupport;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>A warm request that completes synchronously allocates nothing on the heap.</summary>
public sealed class AllocationTests
{
    private sealed class Quiet : FuseFileSystem
    {
        public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
            FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken) =>
            FuseResult<FuseAttributes>.Completed(RecordingFileSystem.Attributes);

        public override ValueTask<FuseResult<FuseEntry>> LookupAsync(
            FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
            name.Is("disk.raw"u8)
                ? FuseResult<FuseEntry>.Completed(RecordingFileSystem.Entry)
                : FuseResult<FuseEntry>.Failed(Errno.ENOENT);

        public override ValueTask<int> ReadAsync(
            FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
            CancellationToken cancellationToken)
        {
            destination.Span.Fill(7);
            return new(destination.Length);
        }

        public override ValueTask<int> WriteAsync(
            FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
            FuseWriteInfo info, CancellationToken cancellationToken) => new(data.Length);

        public override ValueTask<int> ReadDirectoryAsync(
            FuseRequestContext context, ulong inode, ulong handle, ulong offset, FuseDirectoryWriter writer,
            CancellationToken cancellationToken)
        {
            writer.TryAdd("disk.raw"u8, 1, RecordingFileSystem.Entry);
            return new(0);
        }
    }

    private sealed class NullSink : IFuseReplySink
    {
        public int Send(FuseRequest request, int start, int length) => 0;

        public void Recycle(FuseRequest request)
        {
        }
    }

    [Theory]
    [InlineData(15u, "8:99 8:4096 4:4096 4:0 8:0 4:0 4:0")]                  // READ
    [InlineData(16u, "8:99 8:0 4:5 4:0 8:0 4:0 4:0 'hello'")]                // WRITE
    [InlineData(1u, "'disk.raw' 0")]                                         // LOOKUP
    [InlineData(1u, "'missing' 0")]                                          // LOOKUP that fails
    [InlineData(3u, "4:0 4:0 8:0")]                                          // GETATTR
    [InlineData(44u, "8:99 8:0 4:4096 4:0 8:0 4:0 4:0")]                     // READDIRPLUS
    [InlineData(20u, "8:99 4:0 4:0")]                                        // FSYNC
    [InlineData(43u, "8:99 8:4096 8:8192 4:3 4:0")]                          // FALLOCATE
    [InlineData(46u, "8:99 8:4096 4:4 4:0")]                                 // LSEEK
    public void Warm_request_allocates_nothing(uint opcode, string body)
    {
        using var harness = new WireHarness(new Quiet());
        var sink = new NullSink();
        using var place = new FuseRequest(new FuseBuffer(WireHarness.Capacity));
        byte[] request = WireBytes.Request(opcode, 8, 5, WireBytes.Parse(body));
        void Once()
        {
            request.CopyTo(place.Buffer.Whole.Span[FuseBuffer.RequestStart..]);
            Assert.True(harness.Server.Process(place, sink, FuseBuffer.RequestStart, request.Length));
        }

        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 2000; i++)
            {
                Once();
            }
        }));
    }
}
