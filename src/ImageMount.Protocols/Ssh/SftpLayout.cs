using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ssh;

/// <summary>Types of packets (draft-ietf-secsh-filexfer-02, section 3), those that are used.</summary>
internal enum SftpType : byte
{
    /// <summary>The client's first packet.</summary>
    Init = 1,

    /// <summary>The answer to it.</summary>
    Version = 2,

    /// <summary>Opens a file.</summary>
    Open = 3,

    /// <summary>Closes it.</summary>
    Close = 4,

    /// <summary>Reads.</summary>
    Read = 5,

    /// <summary>Writes.</summary>
    Write = 6,

    /// <summary>Attributes of an open file.</summary>
    FStat = 8,

    /// <summary>Sets attributes of an open file.</summary>
    FSetStat = 10,

    /// <summary>Removes a file.</summary>
    Remove = 13,

    /// <summary>Attributes of a path.</summary>
    Stat = 17,

    /// <summary>Success or failure.</summary>
    Status = 101,

    /// <summary>An open file.</summary>
    Handle = 102,

    /// <summary>Bytes that were read.</summary>
    Data = 103,

    /// <summary>Attributes.</summary>
    Attrs = 105,

    /// <summary>A request by name.</summary>
    Extended = 200,

    /// <summary>The answer to one, where that is more than a status.</summary>
    ExtendedReply = 201,
}

/// <summary>Codes of a status (section 7).</summary>
internal enum SftpStatus : uint
{
    /// <summary>Done.</summary>
    Ok = 0,

    /// <summary>Nothing lies there.</summary>
    Eof = 1,

    /// <summary>There is no such file.</summary>
    NoSuchFile = 2,

    /// <summary>Not allowed.</summary>
    PermissionDenied = 3,

    /// <summary>Anything else.</summary>
    Failure = 4,

    /// <summary>The server did not understand the packet.</summary>
    BadMessage = 5,

    /// <summary>The server does not know the request.</summary>
    Unsupported = 8,
}

/// <summary>Constants of SFTP version 3 and of OpenSSH's extensions (its file PROTOCOL).</summary>
internal static class SftpLayout
{
    /// <summary>The version that is spoken; every server speaks it.</summary>
    public const uint Version = 3;

    /// <summary>Length, type, id.</summary>
    public const int HeaderSize = 9;

    /// <summary>Longest packet that is not data; also the size of the receive buffer.</summary>
    public const int MaxSmall = 16 << 10;

    /// <summary>Longest handle (section 6.3).</summary>
    public const int MaxHandle = 256;

    /// <summary>What every server takes in one read or write (section 3: packets of 34000 bytes).</summary>
    public const int SafeTransfer = 32 << 10;

    /// <summary>What is asked for at most, whatever the server takes.</summary>
    public const int MaxTransfer = 1 << 20;

    /// <summary>Open for reading, for writing; make the file; it must not be there.</summary>
    public const uint OpenRead = 1, OpenWrite = 2, OpenCreate = 8, OpenExclusive = 32;

    /// <summary>Attributes that are present: size, owner, permissions, times.</summary>
    public const uint AttrSize = 1, AttrOwner = 2, AttrPermissions = 4, AttrTimes = 8;

    /// <summary>Bits of the permissions that say what kind of file it is, as in stat(2), and that of a regular one.</summary>
    public const uint TypeMask = 0xF000, TypeRegular = 0x8000;

    /// <summary>fsync(2) on a handle.</summary>
    public const string Fsync = "fsync@openssh.com";

    /// <summary>Longest packet, read and write.</summary>
    public const string Limits = "limits@openssh.com";
}

/// <summary>Attributes of a file, those that matter here.</summary>
/// <param name="Size">Bytes; null where the server does not say.</param>
/// <param name="Permissions">As in stat(2); null where the server does not say.</param>
/// <param name="Modified">Seconds since 1970; null where the server does not say.</param>
internal readonly record struct SftpAttributes(long? Size, uint? Permissions, uint? Modified);

/// <summary>Fills a packet of a size that is known beforehand.</summary>
internal ref struct SftpWriter
{
    private readonly byte[] _bytes;
    private int _at;

    /// <summary>A request; its id is set when it is sent.</summary>
    /// <param name="type">Type.</param>
    /// <param name="size">Bytes after the id, without payload.</param>
    public SftpWriter(SftpType type, int size)
    {
        _bytes = new byte[SftpLayout.HeaderSize + size];
        _bytes[4] = (byte)type;
        _at = SftpLayout.HeaderSize;
    }

    /// <summary>A number of 32 bits.</summary>
    public void Put(uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(_bytes.AsSpan(_at), value);
        _at += 4;
    }

    /// <summary>A number of 64 bits.</summary>
    public void Put(long value)
    {
        BinaryPrimitives.WriteInt64BigEndian(_bytes.AsSpan(_at), value);
        _at += 8;
    }

    /// <summary>A string: its length and its bytes.</summary>
    public void Put(ReadOnlySpan<byte> text)
    {
        Put((uint)text.Length);
        text.CopyTo(_bytes.AsSpan(_at));
        _at += text.Length;
    }

    /// <summary>The packet.</summary>
    /// <param name="payload">Bytes that follow it.</param>
    public readonly byte[] Done(int payload = 0)
    {
        BinaryPrimitives.WriteUInt32BigEndian(_bytes, (uint)(_bytes.Length - 4 + payload));
        return _bytes;
    }
}

/// <summary>Takes the body of an answer apart. What is too short breaks the protocol.</summary>
internal ref struct SftpReader(ReadOnlySpan<byte> body)
{
    private ReadOnlySpan<byte> _rest = body;

    /// <summary>Bytes that are left.</summary>
    public readonly int Remaining => _rest.Length;

    /// <summary>A number of 32 bits.</summary>
    public uint U32() => BinaryPrimitives.ReadUInt32BigEndian(Take(4));

    /// <summary>A number of 64 bits.</summary>
    public ulong U64() => BinaryPrimitives.ReadUInt64BigEndian(Take(8));

    /// <summary>A string.</summary>
    public ReadOnlySpan<byte> Text()
    {
        uint length = U32();
        return length <= (uint)_rest.Length
            ? Take((int)length)
            : throw SftpErrors.Protocol("a string leaves its packet", $"{length} bytes", $"at most {_rest.Length}");
    }

    /// <summary>Attributes (section 5).</summary>
    public SftpAttributes Attributes()
    {
        uint flags = U32();
        long? size = null;
        uint? permissions = null, modified = null;
        if ((flags & SftpLayout.AttrSize) != 0)
        {
            ulong value = U64();
            size = value <= long.MaxValue ? (long)value : throw new BlockException(
                BlockErrorKind.LimitExceeded, $"the file on the server is too large, {value} bytes");
        }

        if ((flags & SftpLayout.AttrOwner) != 0)
        {
            Take(8);
        }

        if ((flags & SftpLayout.AttrPermissions) != 0)
        {
            permissions = U32();
        }

        if ((flags & SftpLayout.AttrTimes) != 0)
        {
            U32();
            modified = U32();
        }

        return new SftpAttributes(size, permissions, modified);
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > _rest.Length)
        {
            throw SftpErrors.Protocol("a packet is too short", $"{_rest.Length} bytes left", $"{count}");
        }

        ReadOnlySpan<byte> taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}

/// <summary>The requests, as packets.</summary>
internal static class SftpPackets
{
    /// <summary>The first packet of all: it has a version where others have their id.</summary>
    public static byte[] Init() => [0, 0, 0, 5, (byte)SftpType.Init, 0, 0, 0, (byte)SftpLayout.Version];

    /// <summary>Opens; the attributes of a new file are left to the server.</summary>
    public static byte[] Open(string path, uint flags)
    {
        byte[] name = Encoding.UTF8.GetBytes(path);
        var writer = new SftpWriter(SftpType.Open, 4 + name.Length + 8);
        writer.Put(name);
        writer.Put(flags);
        writer.Put(0u);
        return writer.Done();
    }

    /// <summary>Reads.</summary>
    public static byte[] Read(ReadOnlySpan<byte> handle, long offset, int count)
    {
        var writer = new SftpWriter(SftpType.Read, 4 + handle.Length + 12);
        writer.Put(handle);
        writer.Put(offset);
        writer.Put((uint)count);
        return writer.Done();
    }

    /// <summary>Writes; the payload follows.</summary>
    public static byte[] Write(ReadOnlySpan<byte> handle, long offset, int count)
    {
        var writer = new SftpWriter(SftpType.Write, 4 + handle.Length + 12);
        writer.Put(handle);
        writer.Put(offset);
        writer.Put((uint)count);
        return writer.Done(count);
    }

    /// <summary>Sets the size.</summary>
    public static byte[] SetSize(ReadOnlySpan<byte> handle, long size)
    {
        var writer = new SftpWriter(SftpType.FSetStat, 4 + handle.Length + 12);
        writer.Put(handle);
        writer.Put(SftpLayout.AttrSize);
        writer.Put(size);
        return writer.Done();
    }

    /// <summary>A request about one string: a path or a handle.</summary>
    public static byte[] About(SftpType type, ReadOnlySpan<byte> text)
    {
        var writer = new SftpWriter(type, 4 + text.Length);
        writer.Put(text);
        return writer.Done();
    }

    /// <summary>A request by name, with a handle or without.</summary>
    public static byte[] Extended(string name, ReadOnlySpan<byte> handle = default)
    {
        byte[] text = Encoding.ASCII.GetBytes(name);
        var writer = new SftpWriter(SftpType.Extended, 4 + text.Length + (handle.IsEmpty ? 0 : 4 + handle.Length));
        writer.Put(text);
        if (!handle.IsEmpty)
        {
            writer.Put(handle);
        }

        return writer.Done();
    }
}
