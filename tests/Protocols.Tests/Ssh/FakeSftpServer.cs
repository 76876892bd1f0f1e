using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Ssh;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>
/// An SFTP server of our own behind the byte stream, written from the draft apart from the client: a page cache that a
/// crash forgets, answers out of order and in pieces, and hooks that replace any answer. Numbers are literal on purpose.
/// </summary>
internal sealed class FakeSftpServer(byte[] content, int seed = 1) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<Socket> _connections = [];
    private readonly Random _random = new(seed);

    /// <summary>What readers see.</summary>
    public byte[] Disk { get; set; } = content;

    /// <summary>What is left after a crash.</summary>
    public byte[] Durable { get; set; } = (byte[])content.Clone();

    /// <summary>Its first packet; null for a good one.</summary>
    public byte[]? Greeting { get; set; }

    public bool HasFsync { get; set; } = true;

    /// <summary>Longest read and write that it tells of; 0: it has no such extension.</summary>
    public int Limit { get; set; } = 65536;

    /// <summary>Reads are answered with less than was asked for, and out of order.</summary>
    public bool IsMessy { get; set; }

    /// <summary>Refuses connections.</summary>
    public bool IsDown { get; set; }

    /// <summary>Makes the whole answer to a request (type, id, body after the id); null from it: the usual one.</summary>
    public Func<byte, uint, byte[], byte[]?>? Answer { get; set; }

    /// <summary>Changes an answer on its way.</summary>
    public Func<byte[], byte[]>? Change { get; set; }

    /// <summary>Waited for before a request is handled.</summary>
    public Func<byte, Task>? Before { get; set; }

    public int Accepted { get; private set; }

    public int Flushes { get; private set; }

    /// <summary>A connection, for <see cref="SshConnector.Transport"/>.</summary>
    public SftpTransport Connect()
    {
        lock (_lock)
        {
            if (IsDown)
            {
                throw new BlockException(BlockErrorKind.IoError, "cannot connect to the fake: it is down");
            }

            (var ours, var theirs) = SysSocketPair.Create();
            var server = new Socket(new SafeSocketHandle(ours.DangerousGetHandle(), true));
            var client = new Socket(new SafeSocketHandle(theirs.DangerousGetHandle(), true));
            ours.SetHandleAsInvalid();
            theirs.SetHandleAsInvalid();
            _connections.Add(server);
            Accepted++;
            _ = Task.Run(() => ServeAsync(server));
            return new Transport(client);
        }
    }

    /// <summary>Loses what was not flushed, and all connections.</summary>
    public void Crash()
    {
        lock (_lock)
        {
            Disk = (byte[])Durable.Clone();
            foreach (Socket socket in _connections)
            {
                socket.Dispose();
            }

            _connections.Clear();
        }
    }

    public void Dispose() => Crash();

    /// <summary>A whole packet with an id.</summary>
    public static byte[] Packet(byte type, uint id, params byte[] body)
    {
        var packet = new byte[9 + body.Length];
        BinaryPrimitives.WriteUInt32BigEndian(packet, (uint)(5 + body.Length));
        packet[4] = type;
        BinaryPrimitives.WriteUInt32BigEndian(packet.AsSpan(5), id);
        body.CopyTo(packet, 9);
        return packet;
    }

    /// <summary>A status.</summary>
    public static byte[] Status(uint id, uint code, string text = "") =>
        Packet(101, id, [.. U32(code), .. String(Encoding.UTF8.GetBytes(text)), .. String("en"u8)]);

    public static byte[] U32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    public static byte[] U64(ulong value) => [.. U32((uint)(value >> 32)), .. U32((uint)value)];

    public static byte[] String(ReadOnlySpan<byte> text) => [.. U32((uint)text.Length), .. text];

    private async Task ServeAsync(Socket socket)
    {
        var held = new List<byte[]>();
        try
        {
            await using var stream = new NetworkStream(socket, ownsSocket: true);
            while (true)
            {
                var length = new byte[4];
                await stream.ReadExactlyAsync(length);
                var packet = new byte[BinaryPrimitives.ReadUInt32BigEndian(length)];
                await stream.ReadExactlyAsync(packet);
                if (Before is { } before)
                {
                    await before(packet[0]);
                }

                byte[] answer = Handle(socket, packet);
                byte[] changed = Change?.Invoke(answer) ?? answer;
                held.Add(changed);
                if (IsMessy && packet[0] == 5 && held.Count < 4 && socket.Available > 0)
                {
                    continue;
                }

                byte[][] sent = [.. held];
                held.Clear();
                _random.Shuffle(sent);
                foreach (byte[] one in sent)
                {
                    await stream.WriteAsync(one);
                }

                if (changed.Length != answer.Length || !changed.AsSpan(0, 4).SequenceEqual(answer.AsSpan(0, 4)))
                {
                    return; // Whoever waits for more waits for nothing.
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or SocketException)
        {
            _ = e; // The connection is gone, as tests want it.
        }
    }

    private byte[] Handle(Socket socket, byte[] packet)
    {
        byte type = packet[0];
        if (type == 1)
        {
            byte[] fsync = HasFsync ? [.. String("fsync@openssh.com"u8), .. String("1"u8)] : [];
            byte[] limits = Limit > 0 ? [.. String("limits@openssh.com"u8), .. String("1"u8)] : [];
            byte[] rest = [2, .. U32(3), .. String("x@y"u8), .. String("z"u8), .. fsync, .. limits];
            return Greeting ?? [.. U32((uint)rest.Length), .. rest];
        }

        uint id = BinaryPrimitives.ReadUInt32BigEndian(packet.AsSpan(1));
        byte[] body = packet[5..];
        if (Answer?.Invoke(type, id, body) is { } answer)
        {
            return answer;
        }

        lock (_lock)
        {
            // A crash takes its connections with it: nothing of them may reach the disk afterwards.
            return _connections.Contains(socket) ? Do(type, id, body) : Status(id, 4);
        }
    }

    private byte[] Do(byte type, uint id, byte[] body)
    {
        int text = (int)BinaryPrimitives.ReadUInt32BigEndian(body);
        byte[] rest = body[(4 + text)..];
        switch (type)
        {
            case 3:
                return Packet(102, id, String("hand"u8));
            case 8:
                return Packet(105, id, [.. U32(0xF), .. U64((ulong)Disk.Length), .. U64(0), .. U32(0x81A4), .. U64(1)]);
            case 10:
                byte[] disk = Disk;
                Array.Resize(ref disk, (int)BinaryPrimitives.ReadUInt64BigEndian(rest.AsSpan(4)));
                Disk = disk;
                return Status(id, 0);
            case 5:
                long offset = BinaryPrimitives.ReadInt64BigEndian(rest);
                int count = BinaryPrimitives.ReadInt32BigEndian(rest.AsSpan(8));
                Assert.True(Limit == 0 ? count <= 32768 : count <= Limit, $"a read of {count} bytes");
                count = (int)Math.Min(IsMessy ? _random.Next(1, count + 1) : count, Disk.Length - offset);
                return count <= 0 ? Status(id, 1) : Packet(103, id, String(Disk.AsSpan((int)offset, count)));
            case 6:
                offset = BinaryPrimitives.ReadInt64BigEndian(rest);
                byte[] data = rest[12..];
                Assert.True(Limit == 0 ? data.Length <= 32768 : data.Length <= Limit, $"a write of {data.Length} bytes");
                data.CopyTo(Disk, offset);
                return Status(id, 0);
            case 200:
                if (Encoding.ASCII.GetString(body, 4, text) == "limits@openssh.com")
                {
                    ulong limit = (ulong)Limit;
                    return Packet(201, id, [.. U64(limit + 1024), .. U64(limit), .. U64(limit), .. U64(100)]);
                }

                Durable = (byte[])Disk.Clone();
                Flushes++;
                return Status(id, 0);
            default:
                return Status(id, 8);
        }
    }

    private sealed class Transport(Socket socket) : SftpTransport
    {
        private readonly NetworkStream _stream = new(socket, ownsSocket: true);

        public override Stream Input => _stream;

        public override Stream Output => _stream;

        public override void Abort() => _stream.Dispose();

        public override ValueTask CloseAsync()
        {
            Abort();
            return default;
        }

        public override ValueTask<BlockException> ExplainAsync(BlockException reason) => new(reason);
    }
}
