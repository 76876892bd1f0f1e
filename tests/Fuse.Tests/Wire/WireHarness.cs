using System.Buffers.Binary;
using ImageMount.Fuse;
using ImageMount.Fuse.Protocol;
using ImageMount.Fuse.Transport;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>A protocol server without a kernel: bytes in, bytes out.</summary>
internal sealed class WireHarness : IFuseReplySink, IFuseConnection, IDisposable
{
    public const int Capacity = 128 << 10;

    private readonly FuseRequestPool _pool = new(Capacity + 4096, byteLimit: 4 << 20, workers: 2);
    private readonly object _lock = new();
    private readonly List<byte[]> _replies = [];
    private readonly List<ulong> _recycled = [];
    private ulong _unique = 100;

    public WireHarness(FuseFileSystem fileSystem, FuseSessionOptions? options = null, bool initialize = true)
    {
        options ??= new FuseSessionOptions();
        Server = new FuseServer(
            fileSystem, options with { Warning = (message, _) => Warnings.Add(message) }, this, Capacity,
            () => _pool.All);
        if (initialize)
        {
            // A kernel of today: 7.45, every flag offered, 64 bytes.
            Send(26, 0, WireBytes.Parse("4:7 4:45 4:131072 4:0xffffffff 4:0xffffffff z44"));
            _replies.Clear();
        }
    }

    public FuseServer Server { get; }

    public List<string> Warnings { get; } = [];

    /// <summary>Buffers handed back after a suspension.</summary>
    public int Recycled
    {
        get
        {
            lock (_lock)
            {
                return _recycled.Count;
            }
        }
    }

    public FuseConnectionInfo Info => Server.Info!;

    public ulong LastUnique => _unique;

    /// <summary>Sends a request; its reply, or null when there is none (yet).</summary>
    public byte[]? Send(uint opcode, ulong inode, byte[] body) => SendRaw(
        WireBytes.Request(opcode, NextUnique(), inode, body));

    /// <summary>Sends bytes as they are.</summary>
    public byte[]? SendRaw(byte[] request)
    {
        FuseRequest place = _pool.Take()!;
        // What a previous request left in the buffer must not matter.
        place.Buffer.Whole.Span.Fill(0xA5);
        request.CopyTo(place.Buffer.Whole.Span[FuseBuffer.RequestStart..]);
        int before = _replies.Count;
        if (Server.Process(place, this, FuseBuffer.RequestStart, request.Length))
        {
            _pool.Return(place);
        }
        lock (_lock)
        {
            return _replies.Count > before ? _replies[^1] : null;
        }
    }

    /// <summary>The reply to a request that had suspended.</summary>
    public byte[]? ReplyTo(ulong unique)
    {
        lock (_lock)
        {
            return _replies.Find(r => BinaryPrimitives.ReadUInt64LittleEndian(r.AsSpan(8)) == unique);
        }
    }

    /// <summary>Waits until request <paramref name="unique"/> was answered and its place given back; the
    /// reply.</summary>
    public byte[] Await(ulong unique)
    {
        lock (_lock)
        {
            while (!_recycled.Contains(unique))
            {
                Assert.True(Monitor.Wait(_lock, TimeSpan.FromSeconds(30)), $"request {unique} was never finished");
            }
        }
        return ReplyTo(unique)!;
    }

    public int ReplyCount
    {
        get
        {
            lock (_lock)
            {
                return _replies.Count;
            }
        }
    }

    /// <summary>Numbers as the kernel gives them: even, counting up.</summary>
    public ulong NextUnique() => _unique += 2;

    public static int Error(byte[] reply) => BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4));

    int IFuseReplySink.Send(FuseRequest request, int start, int length)
    {
        lock (_lock)
        {
            _replies.Add(request.Buffer.Whole.Span.Slice(start, length).ToArray());
        }
        return 0;
    }

    void IFuseReplySink.Recycle(FuseRequest request)
    {
        ulong unique = request.Unique;
        _pool.Return(request);
        lock (_lock)
        {
            _recycled.Add(unique);
            Monitor.PulseAll(_lock);
        }
    }

    int IFuseConnection.NotifyInvalidateInode(ulong inode, long offset, long length) => 0;

    int IFuseConnection.NotifyInvalidateEntry(ulong parent, ReadOnlySpan<byte> name) => 0;

    int IFuseConnection.NotifyStore(ulong inode, long offset, ReadOnlySpan<byte> data) => 0;

    int IFuseConnection.NotifyDelete(ulong parent, ulong child, ReadOnlySpan<byte> name) => 0;

    int IFuseConnection.RegisterBacking(SafeFileHandle file) => -Errno.EOPNOTSUPP;

    int IFuseConnection.UnregisterBacking(int backingId) => -Errno.EOPNOTSUPP;

    public void Dispose() => _pool.Dispose();
}
