using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace ImageMount.TestSupport.Servers;

/// <summary>A command as it came, with all its data.</summary>
public sealed record FakeScsiCommand(byte[] Cdb, uint Task, byte[] Data)
{
    /// <summary>First byte.</summary>
    public byte Operation => Cdb[0];

    /// <summary>Logical block address of commands of 10 and 16 bytes.</summary>
    public long Block => Cdb[0] >= 0x80
        ? (long)BinaryPrimitives.ReadUInt64BigEndian(Cdb.AsSpan(2)) : BinaryPrimitives.ReadUInt32BigEndian(Cdb.AsSpan(2));

    /// <summary>Their number of blocks.</summary>
    public int Count => Cdb[0] >= 0x80
        ? (int)BinaryPrimitives.ReadUInt32BigEndian(Cdb.AsSpan(10)) : BinaryPrimitives.ReadUInt16BigEndian(Cdb.AsSpan(7));

    /// <summary>Reads or writes blocks.</summary>
    public bool IsRead => Operation is 0x28 or 0x88;

    /// <summary>Writes blocks.</summary>
    public bool IsWrite => Operation is 0x2A or 0x8A;
}

/// <summary>What a target answers.</summary>
/// <param name="Status">SCSI status.</param>
/// <param name="Data">For the initiator.</param>
/// <param name="Sense">Sense data without its length, for status 2.</param>
/// <param name="Missing">Residual that it tells; null: the true one.</param>
public sealed record FakeScsiAnswer(byte Status, byte[] Data, byte[]? Sense = null, int? Missing = null)
{
    /// <summary>Well done.</summary>
    public static FakeScsiAnswer Good { get; } = new(0, []);

    /// <summary>A check condition in fixed format.</summary>
    public static FakeScsiAnswer Check(byte key, ushort code)
    {
        var sense = new byte[18];
        (sense[0], sense[2], sense[7]) = (0x70, key, 10);
        BinaryPrimitives.WriteUInt16BigEndian(sense.AsSpan(12), code);
        return new FakeScsiAnswer(2, [], sense);
    }
}

/// <summary>
/// An iSCSI target of our own with one unit, written from RFC 7143 and SBC-3 apart from the client: a write cache that a
/// crash forgets, and hooks that replace any answer or change any message. Numbers are literal on purpose.
/// </summary>
public sealed class FakeIscsiTarget : IDisposable
{
    /// <summary>Name of the target.</summary>
    public const string Target = "iqn.2024-01.test.local:fake";

    private readonly Lock _lock = new();
    private readonly List<Socket> _connections = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly int _blockSize;
    private Socket? _listener;
    private int _life;

    /// <summary>A target of a disk with this content, listening.</summary>
    public FakeIscsiTarget(byte[] content, int blockSize = 512)
    {
        Port = ServerProcess.FreePort();
        _blockSize = blockSize;
        Disk = (byte[])content.Clone();
        Durable = (byte[])content.Clone();
        BlockLength = blockSize;
        Start();
    }

    /// <summary>Its port.</summary>
    public int Port { get; }

    /// <summary>The URI.</summary>
    public string Uri => $"iscsi://127.0.0.1:{Port}/{Target}/1";

    /// <summary>What readers see.</summary>
    public byte[] Disk { get; private set; }

    /// <summary>What is left after a crash.</summary>
    public byte[] Durable { get; }

    /// <summary>First byte of the answer to INQUIRY: qualifier and type.</summary>
    public byte Type { get; set; }

    /// <summary>Block length that it tells.</summary>
    public int BlockLength { get; set; }

    /// <summary>Last block that it tells; null: the true one.</summary>
    public ulong? LastBlock { get; set; }

    /// <summary>Status of the login; 0 for welcome.</summary>
    public ushort LoginStatus { get; set; }

    /// <summary>More keys in the answer to the login ("TargetAddress=…").</summary>
    public string[] LoginKeys { get; set; } = [];

    /// <summary>What to answer instead; null for the usual answer.</summary>
    public Func<FakeScsiCommand, FakeScsiAnswer?>? Answer { get; set; }

    /// <summary>Answers at once, before the data of a write has come; null: waits for it.</summary>
    public Func<byte, FakeScsiAnswer?>? AnswerEarly { get; set; }

    /// <summary>Called with each command before it is carried out; may wait, or throw to break off.</summary>
    public Func<FakeScsiCommand, Task>? Before { get; set; }

    /// <summary>Changes every message before it is sent; null breaks off.</summary>
    public Func<byte[], byte[]?>? Mutate { get; set; }

    /// <summary>Accepts connections, and never says anything.</summary>
    public bool IsSilent { get; set; }

    /// <summary>Connections accepted so far.</summary>
    public int Accepted { get; private set; }

    /// <summary>Listens (again).</summary>
    public void Start()
    {
        var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, Port));
        listener.Listen(64);
        _listener = listener;
        _ = Task.Run(() => AcceptAsync(listener));
    }

    /// <summary>Loses its connections and all that was not flushed, and does not listen until started again.</summary>
    public void Crash()
    {
        lock (_lock)
        {
            _listener?.Dispose();
            _listener = null;
            _connections.ForEach(connection => connection.Dispose());
            _connections.Clear();
            Forget();
        }
    }

    /// <summary>Loses all that was not flushed, as a unit that was reset.</summary>
    public void Forget()
    {
        lock (_lock)
        {
            _life++;
            Disk = (byte[])Durable.Clone();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        Crash();
    }

    private async Task AcceptAsync(Socket listener)
    {
        try
        {
            while (true)
            {
                Socket socket = await listener.AcceptAsync(_stop.Token);
                lock (_lock)
                {
                    _connections.Add(socket);
                    Accepted++;
                }

                _ = Task.Run(() => ServeAsync(socket));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // Crashed, or at its end.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            using var stream = new NetworkStream(socket, ownsSocket: true);
            await new Connection(this, stream).TalkAsync();
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // The client has gone, or the target has crashed.
        }
    }

    private FakeScsiAnswer Carry(FakeScsiCommand c)
    {
        lock (_lock)
        {
            byte[] Be(ulong number, int size)
            {
                var bytes = new byte[8];
                BinaryPrimitives.WriteUInt64BigEndian(bytes, number);
                return bytes[(8 - size)..];
            }

            ulong last = LastBlock ?? (ulong)((Disk.Length / _blockSize) - 1);
            int at = (int)(c.Block * _blockSize);
            int count = c.Count * _blockSize;
            if (c.IsRead || c.IsWrite || c.Operation == 0x93)
            {
                if (c.Block + c.Count > Disk.Length / _blockSize)
                {
                    return FakeScsiAnswer.Check(5, 0x2100);
                }
            }

            switch (c.Operation)
            {
                case 0x00:
                    return FakeScsiAnswer.Good;
                case 0x12 when (c.Cdb[1] & 1) == 0:
                    return new(0, [Type, 0, 5, 2, 31, 0, 0, 2, .. Encoding.ASCII.GetBytes("FAKE    TARGET          1   ")]);
                case 0x12 when c.Cdb[2] == 0:
                    return new(0, [Type, 0, 0, 3, 0, 0xB0, 0xB2]);
                case 0x12 when c.Cdb[2] == 0xB0:
                    byte[] limits = new byte[64];
                    (limits[0], limits[1], limits[3]) = (Type, 0xB0, 60);
                    Be(1024, 4).CopyTo(limits, 20);
                    Be(1, 4).CopyTo(limits, 24);
                    return new(0, limits);
                case 0x12 when c.Cdb[2] == 0xB2:
                    return new(0, [Type, 0xB2, 0, 4, 0, 0xC0, 0, 0]);
                case 0x1A:
                    byte[] caching = new byte[20];
                    (caching[0], caching[1], caching[2]) = (8, 18, 4);
                    return new(0, [23, 0, 0x10, 0, .. caching]);
                case 0x25:
                    return new(0, [.. Be(Math.Min(last, uint.MaxValue), 4), .. Be((ulong)BlockLength, 4)]);
                case 0x9E when (c.Cdb[1] & 0x1F) == 0x10:
                    return new(0, [.. Be(last, 8), .. Be((ulong)BlockLength, 4), 0, 0, 0xC0, 0, .. new byte[16]]);
                case 0x9E when (c.Cdb[1] & 0x1F) == 0x12:
                    return new(0, [.. Be(20, 4), 0, 0, 0, 0, .. Be((ulong)c.Block, 8), .. Be(1, 4), 0, 0, 0, 0]);
                case 0x28 or 0x88:
                    return new(0, Disk[at..(at + count)]);
                case 0x2A or 0x8A:
                    c.Data.CopyTo(Disk, at);
                    if ((c.Cdb[1] & 8) != 0)
                    {
                        c.Data.CopyTo(Durable, at);
                    }

                    return FakeScsiAnswer.Good;
                case 0x35:
                    Disk.CopyTo(Durable, 0);
                    return FakeScsiAnswer.Good;
                case 0x93:
                    for (int i = 0; i < c.Count; i++)
                    {
                        c.Data.CopyTo(Disk, at + (i * _blockSize));
                    }

                    return FakeScsiAnswer.Good;
                case 0x42:
                    long first = (long)BinaryPrimitives.ReadUInt64BigEndian(c.Data.AsSpan(8));
                    int blocks = (int)BinaryPrimitives.ReadUInt32BigEndian(c.Data.AsSpan(16));
                    Disk.AsSpan((int)first * _blockSize, blocks * _blockSize).Clear();
                    return FakeScsiAnswer.Good;
                default:
                    return FakeScsiAnswer.Check(5, 0x2000);
            }
        }
    }

    /// <summary>One connection, that is, one session.</summary>
    private sealed class Connection(FakeIscsiTarget target, NetworkStream stream)
    {
        private readonly Dictionary<uint, (byte[] Header, byte[] Data, int Got)> _writes = [];
        private readonly int _life = target._life;
        private uint _status = 1;
        private uint _command;

        public async Task TalkAsync()
        {
            while (true)
            {
                var header = new byte[48];
                await stream.ReadExactlyAsync(header, target._stop.Token);
                int length = (int)(BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(4)) & 0xFFFFFF);
                var data = new byte[(length + 3) / 4 * 4];
                await stream.ReadExactlyAsync(data, target._stop.Token);
                data = data[..length];
                if (target.IsSilent)
                {
                    continue;
                }

                if ((header[0] & 0x40) == 0 && (header[0] & 0x3F) != 5)
                {
                    _command = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(24)) + 1;
                }
                else if ((header[0] & 0x3F) == 3)
                {
                    _command = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(24));
                }

                switch (header[0] & 0x3F)
                {
                    case 0x00:
                        await SendAsync(0x20, 0x80, header, data, reply => header.AsSpan(8, 8).CopyTo(reply.AsSpan(8)));
                        break;
                    case 0x01:
                        await CommandAsync(header, data);
                        break;
                    case 0x03:
                        await LoginAsync(header);
                        break;
                    case 0x05:
                        await DataAsync(header, data);
                        break;
                    case 0x06:
                        await SendAsync(0x26, 0x80, header, []);
                        return;
                    default:
                        return;
                }
            }
        }

        private async Task LoginAsync(byte[] header)
        {
            int stage = (header[1] >> 2) & 3;
            string[] keys = stage == 0
                ? ["AuthMethod=None"]
                : ["HeaderDigest=None", "DataDigest=None", "InitialR2T=No", "ImmediateData=Yes", "MaxBurstLength=262144",
                    "FirstBurstLength=65536", "MaxRecvDataSegmentLength=8192"];
            byte[] text = Encoding.ASCII.GetBytes(string.Concat(keys.Concat(target.LoginKeys).Select(key => key + '\0')));
            byte flags = (byte)(0x80 | (stage << 2) | (stage == 0 ? 1 : 3));
            await SendAsync(0x23, flags, header, text, reply =>
            {
                header.AsSpan(8, 6).CopyTo(reply.AsSpan(8));
                reply[15] = 1;
                BinaryPrimitives.WriteUInt16BigEndian(reply.AsSpan(36), target.LoginStatus);
            });
        }

        private async Task CommandAsync(byte[] header, byte[] data)
        {
            uint task = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(16));
            int expected = (int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(20));
            bool isWrite = (header[1] & 0x20) != 0;
            if (isWrite && data.Length < expected)
            {
                if (target.AnswerEarly?.Invoke(header[32]) is { } early)
                {
                    await AnswerAsync(header, early);
                    return;
                }

                var whole = new byte[expected];
                data.CopyTo(whole, 0);
                _writes[task] = (header, whole, data.Length);
                if ((header[1] & 0x80) != 0)
                {
                    await AskAsync(header, data.Length, expected - data.Length);
                }

                return;
            }

            await RunAsync(header, data);
        }

        /// <summary>Ready to transfer.</summary>
        private Task AskAsync(byte[] header, int offset, int count) => SendAsync(0x31, 0x80, header, [], reply =>
        {
            header.AsSpan(8, 8).CopyTo(reply.AsSpan(8));
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(20), 77);
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(40), (uint)offset);
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(44), (uint)count);
        }, isStatus: false);

        private async Task DataAsync(byte[] header, byte[] data)
        {
            uint task = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(16));
            if (!_writes.TryGetValue(task, out (byte[] Header, byte[] Data, int Got) write))
            {
                return; // Of a command that was answered before its data came.
            }

            data.CopyTo(write.Data, (int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(40)));
            write.Got += data.Length;
            _writes[task] = write;
            if (write.Got == write.Data.Length)
            {
                _writes.Remove(task);
                await RunAsync(write.Header, write.Data);
            }
            else if ((header[1] & 0x80) != 0)
            {
                await AskAsync(write.Header, write.Got, Math.Min(write.Data.Length - write.Got, 65536));
            }
        }

        private async Task RunAsync(byte[] header, byte[] data)
        {
            var command = new FakeScsiCommand(
                header[32..48], BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(16)), data);
            if (target.Before is { } before)
            {
                await before(command);
            }

            if (target.Answer?.Invoke(command) is { } other)
            {
                await AnswerAsync(header, other);
                return;
            }

            FakeScsiAnswer usual;
            lock (target._lock)
            {
                if (_life != target._life && command.IsWrite)
                {
                    throw new IOException("the life that this session belonged to is over");
                }

                usual = target.Carry(command);
            }

            await AnswerAsync(header, usual);
        }

        private async Task AnswerAsync(byte[] header, FakeScsiAnswer answer)
        {
            int expected = (int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(20));
            bool isRead = (header[1] & 0x40) != 0;
            byte[] data = answer.Data.Length > expected ? answer.Data[..expected] : answer.Data;
            const int Piece = 8192;
            uint number = 0;
            for (int at = 0; isRead && at < data.Length; at += Piece)
            {
                byte[] piece = data[at..Math.Min(at + Piece, data.Length)];
                uint own = number++;
                int offset = at;
                await SendAsync(0x25, (byte)(at + Piece >= data.Length ? 0x80 : 0), header, piece, reply =>
                {
                    BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(20), 0xFFFFFFFF);
                    BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(36), own);
                    BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(40), (uint)offset);
                }, isStatus: false);
            }

            int missing = answer.Missing ?? (isRead ? expected - data.Length : 0);
            byte[] sense = answer.Sense is null ? [] : [0, (byte)answer.Sense.Length, .. answer.Sense];
            await SendAsync(0x21, (byte)(0x80 | (missing > 0 ? 2 : 0)), header, sense, reply =>
            {
                reply[3] = answer.Status;
                BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(36), number);
                BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(44), (uint)missing);
            });
        }

        private async Task SendAsync(
            byte operation, byte flags, byte[] request, byte[] data, Action<byte[]>? fill = null, bool isStatus = true)
        {
            var message = new byte[48 + ((data.Length + 3) / 4 * 4)];
            (message[0], message[1]) = (operation, flags);
            BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(4), (uint)data.Length);
            request.AsSpan(16, 4).CopyTo(message.AsSpan(16));
            BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(20), 0xFFFFFFFF);
            BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(24), isStatus ? _status++ : _status);
            BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(28), _command);
            BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(32), _command + 63);
            if (operation is 0x23)
            {
                message.AsSpan(20, 4).Clear();
            }

            fill?.Invoke(message);
            data.CopyTo(message, 48);
            byte[] changed = target.Mutate is { } mutate ? mutate(message) ?? throw new IOException("broken off") : message;
            await stream.WriteAsync(changed, target._stop.Token);
        }
    }
}
