using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;

namespace ImageMount.TestSupport.Servers;

/// <summary>How a <see cref="FakeNbdServer"/> greets.</summary>
public enum FakeNbdStyle
{
    /// <summary>The old style.</summary>
    Old,

    /// <summary>New, but not fixed.</summary>
    New,

    /// <summary>Fixed newstyle.</summary>
    Fixed,
}

/// <summary>A request as it came.</summary>
public readonly record struct FakeNbdRequest(
    ushort Flags, ushort Command, ulong Cookie, ulong Offset, ulong Length, byte[] Payload);

/// <summary>
/// An NBD server of our own, written from the specification apart from the client: every style and extension, a write
/// cache that a crash forgets, and hooks that replace any answer. Numbers are literal on purpose.
/// </summary>
public sealed class FakeNbdServer : IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<Socket> _connections = [];
    private readonly CancellationTokenSource _stop = new();
    private Socket? _listener;
    private int _life;

    /// <summary>A server of a disk with this content; not listening yet.</summary>
    public FakeNbdServer(TempDir dir, byte[] content)
    {
        Path = dir.File($"fake{Guid.NewGuid().ToString("N")[..6]}.sock");
        Disk = content;
        Durable = (byte[])content.Clone();
    }

    /// <summary>The socket.</summary>
    public string Path { get; }

    /// <summary>The URI.</summary>
    public string Uri => $"nbd+unix:///disk?socket={Path}";

    /// <summary>What readers see.</summary>
    public byte[] Disk { get; private set; }

    /// <summary>What is left after a crash.</summary>
    public byte[] Durable { get; }

    /// <summary>How it greets.</summary>
    public FakeNbdStyle Style { get; set; } = FakeNbdStyle.Fixed;

    /// <summary>Options that it knows (7 GO, 8 structured, 10 contexts, 11 extended headers).</summary>
    public HashSet<uint> Options { get; } = [7, 8, 10, 11];

    /// <summary>has flags, flush, FUA, trim, write zeroes, cache, fast zero.</summary>
    public ushort Flags { get; set; } = 1 | 4 | 8 | 32 | 64 | 1024 | 2048;

    /// <summary>Size that it tells, where it is not the true one.</summary>
    public ulong? Size { get; set; }

    /// <summary>Block sizes that it tells, or null.</summary>
    public (uint Min, uint Preferred, uint Max)? Blocks { get; set; }

    /// <summary>What to send instead of the answer to a request; null for the usual answer.</summary>
    public Func<FakeNbdRequest, byte[]?>? Answer { get; set; }

    /// <summary>Changes every message before it is sent, the greeting too.</summary>
    public Func<byte[], byte[]>? Mutate { get; set; }

    /// <summary>Called with each request before it is carried out; may wait, or throw to break off.</summary>
    public Func<FakeNbdRequest, Task>? Before { get; set; }

    /// <summary>Connections accepted so far.</summary>
    public int Accepted { get; private set; }

    /// <summary>Listens.</summary>
    public FakeNbdServer Start()
    {
        File.Delete(Path);
        Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(Path));
        listener.Listen(64);
        _listener = listener;
        _ = Task.Run(() => AcceptAsync(listener));
        return this;
    }

    /// <summary>Loses its connections and all that was not flushed, and does not listen until started again.</summary>
    public void Crash()
    {
        lock (_lock)
        {
            _listener?.Dispose();
            _listener = null;
            _life++;
            foreach (Socket connection in _connections)
            {
                connection.Dispose();
            }

            _connections.Clear();
            Disk = (byte[])Durable.Clone();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        Crash();
    }

    /// <summary>A number as the protocol writes it.</summary>
    public static byte[] Be(params object[] numbers) =>
    [
        .. numbers.SelectMany(number =>
        {
            var bytes = new byte[8];
            switch (number)
            {
                case ushort n:
                    BinaryPrimitives.WriteUInt16BigEndian(bytes, n);
                    return bytes[..2];
                case uint n:
                    BinaryPrimitives.WriteUInt32BigEndian(bytes, n);
                    return bytes[..4];
                case ulong n:
                    BinaryPrimitives.WriteUInt64BigEndian(bytes, n);
                    return bytes;
                case byte[] raw:
                    return raw;
                default:
                    throw new ArgumentException($"{number.GetType()}");
            }
        }),
    ];

    /// <summary>A simple reply.</summary>
    public static byte[] Simple(ulong cookie, uint error, byte[]? payload = null) =>
        Be(0x67446698u, error, cookie, payload ?? []);

    /// <summary>A chunk of a structured reply.</summary>
    public static byte[] Chunk(ulong cookie, ushort type, bool isLast, byte[] data) =>
        Be(0x668e33efu, (ushort)(isLast ? 1 : 0), type, cookie, (uint)data.Length, data);

    /// <summary>A chunk of an extended reply.</summary>
    public static byte[] Extended(ulong cookie, ushort type, bool isLast, ulong offset, byte[] data) =>
        Be(0x6e8a278cu, (ushort)(isLast ? 1 : 0), type, cookie, offset, (ulong)data.Length, data);

    private async Task AcceptAsync(Socket listener)
    {
        try
        {
            while (true)
            {
                Socket socket = await listener.AcceptAsync(_stop.Token);
                int life;
                lock (_lock)
                {
                    _connections.Add(socket);
                    Accepted++;
                    life = _life;
                }

                _ = Task.Run(() => ServeAsync(socket, life));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // Crashed, or at its end.
        }
    }

    private async Task ServeAsync(Socket socket, int life)
    {
        try
        {
            using var stream = new NetworkStream(socket, ownsSocket: true);
            await TalkAsync(stream, life);
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // The client has gone, or the server has crashed.
        }
    }

    private async Task SendAsync(NetworkStream stream, byte[] bytes) =>
        await stream.WriteAsync(Mutate?.Invoke(bytes) ?? bytes, _stop.Token);

    private async Task<byte[]> ReadAsync(NetworkStream stream, int count)
    {
        var bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes, _stop.Token);
        return bytes;
    }

    private async Task TalkAsync(NetworkStream stream, int life)
    {
        ulong size = Size ?? (ulong)Disk.Length;
        bool isStructured = false;
        bool isExtended = false;
        if (Style == FakeNbdStyle.Old)
        {
            await SendAsync(stream, Be(0x4e42444d41474943ul, 0x00420281861253ul, size, (uint)Flags, new byte[124]));
        }
        else
        {
            await SendAsync(stream, Be(
                0x4e42444d41474943ul, 0x49484156454F5054ul, (ushort)(Style == FakeNbdStyle.Fixed ? 3 : 0)));
            await ReadAsync(stream, 4);
            (bool begins, isStructured, isExtended) = await NegotiateAsync(stream, size);
            if (!begins)
            {
                return;
            }
        }

        while (true)
        {
            byte[] head = await ReadAsync(stream, isExtended ? 32 : 28);
            uint magic = BinaryPrimitives.ReadUInt32BigEndian(head);
            Assert.Equal(isExtended ? 0x21e41c71u : 0x25609513u, magic);
            ushort flags = BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(4));
            ushort command = BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(6));
            ulong length = isExtended
                ? BinaryPrimitives.ReadUInt64BigEndian(head.AsSpan(24))
                : BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(24));
            byte[] payload = command == 1 ? await ReadAsync(stream, (int)length) : [];
            var request = new FakeNbdRequest(
                flags, command, BinaryPrimitives.ReadUInt64BigEndian(head.AsSpan(8)),
                BinaryPrimitives.ReadUInt64BigEndian(head.AsSpan(16)), length, payload);
            if (command == 2)
            {
                return;
            }

            if (Before is { } before)
            {
                await before(request);
            }

            byte[] usual = Carry(request, isStructured, isExtended, life);
            await SendAsync(stream, Answer?.Invoke(request) ?? usual);
        }
    }

    private async Task<(bool Begins, bool IsStructured, bool IsExtended)> NegotiateAsync(NetworkStream stream, ulong size)
    {
        bool isStructured = false;
        bool isExtended = false;
        while (true)
        {
            byte[] head = await ReadAsync(stream, 16);
            uint option = BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(8));
            byte[] data = await ReadAsync(stream, (int)BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(12)));
            byte[] Reply(uint type, byte[] more) => Be(0x3e889045565a9ul, option, type, (uint)more.Length, more);
            switch (option)
            {
                case 1:
                    await SendAsync(stream, Be(size, Flags, Style == FakeNbdStyle.Fixed ? [] : new byte[124]));
                    return (true, isStructured, isExtended);
                case 3:
                    await SendAsync(stream, Be(Reply(2, Be(4u, "disk"u8.ToArray())), Reply(1, [])));
                    break;
                case 8 when Options.Contains(8):
                    isStructured = true;
                    await SendAsync(stream, Reply(1, []));
                    break;
                case 11 when Options.Contains(11):
                    isStructured = isExtended = true;
                    await SendAsync(stream, Reply(1, []));
                    break;
                case 10 when Options.Contains(10):
                    await SendAsync(
                        stream, Be(Reply(4, Be(7u, Encoding.ASCII.GetBytes("base:allocation"))), Reply(1, [])));
                    break;
                case 7 when Options.Contains(7):
                    int length = (int)BinaryPrimitives.ReadUInt32BigEndian(data);
                    if (Encoding.UTF8.GetString(data, 4, length) != "disk")
                    {
                        await SendAsync(stream, Reply(0x80000006, "no such\nexport"u8.ToArray()));
                        break;
                    }

                    byte[] info = Reply(3, Be((ushort)0, size, Flags));
                    byte[] blocks = Blocks is { } b ? Reply(3, Be((ushort)3, b.Min, b.Preferred, b.Max)) : [];
                    await SendAsync(stream, Be(info, blocks, Reply(1, [])));
                    return (true, isStructured, isExtended);
                default:
                    await SendAsync(stream, Reply(0x80000001, []));
                    break;
            }
        }
    }

    /// <summary>Carries a request out, and makes the usual answer: reads and block status in two chunks.</summary>
    private byte[] Carry(FakeNbdRequest r, bool isStructured, bool isExtended, int life)
    {
        byte[] Done(uint error) => isExtended
            ? Extended(r.Cookie, (ushort)(error == 0 ? 0 : 0x8001), true, r.Offset, error == 0 ? [] : Be(error, (ushort)0))
            : Simple(r.Cookie, error);
        lock (_lock)
        {
            if (life != _life)
            {
                throw new IOException("the process that this connection belonged to has crashed");
            }

            long end = (long)(r.Offset + r.Length);
            if (r.Command is 0 or 1 or 4 or 6 && end > Disk.Length)
            {
                return Done(22);
            }

            int at = (int)r.Offset;
            int count = (int)r.Length;
            switch (r.Command)
            {
                case 0 when !isStructured:
                    return Be(Simple(r.Cookie, 0), Disk[at..(at + count)]);
                case 0:
                    return Read(r, at, count, isExtended);
                case 1:
                    r.Payload.CopyTo(Disk, at);
                    Harden(r, at, count);
                    return Done(0);
                case 3:
                    Disk.CopyTo(Durable, 0);
                    return Done(0);
                case 6:
                    Disk.AsSpan(at, count).Clear();
                    Harden(r, at, count);
                    return Done(0);
                case 7:
                    uint half = (uint)Math.Max(1, r.Length / 2);
                    return isExtended
                        ? Extended(r.Cookie, 6, true, r.Offset, Be(7u, 2u, (ulong)half, 0ul, (ulong)half, 0ul))
                        : Chunk(r.Cookie, 5, true, Be(7u, half, 0u, half, 0u));
                default:
                    return Done(0);
            }
        }
    }

    private void Harden(FakeNbdRequest r, int at, int count)
    {
        if ((r.Flags & 1) != 0)
        {
            Disk.AsSpan(at, count).CopyTo(Durable.AsSpan(at));
        }
    }

    /// <summary>The second half first, and as a hole where it is zero: what a client must cope with.</summary>
    private byte[] Read(FakeNbdRequest r, int at, int count, bool isExtended)
    {
        byte[] Make(ushort type, bool isLast, byte[] data) =>
            isExtended ? Extended(r.Cookie, type, isLast, r.Offset, data) : Chunk(r.Cookie, type, isLast, data);
        if (count < 2)
        {
            return Make(1, true, Be(r.Offset, Disk[at..(at + count)]));
        }

        int half = count / 2;
        byte[] second = Disk[(at + half)..(at + count)];
        byte[] tail = second.AsSpan().ContainsAnyExcept((byte)0)
            ? Make(1, false, Be((ulong)(at + half), second))
            : Make(2, false, Be((ulong)(at + half), (uint)second.Length));
        return Be(tail, Make(1, false, Be((ulong)at, Disk[at..(at + half)])), Make(0, true, []));
    }
}
