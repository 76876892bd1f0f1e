using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// Numbers of the NBD protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md). Everything is big-endian.
/// </summary>
internal static class NbdLayout
{
    /// <summary>"NBDMAGIC", first word of every server.</summary>
    public const ulong ServerMagic = 0x4e42444d41474943;

    /// <summary>"IHAVEOPT": newstyle; also before every option.</summary>
    public const ulong OptionMagic = 0x49484156454F5054;

    /// <summary>Second word of an oldstyle server.</summary>
    public const ulong OldStyleMagic = 0x00420281861253;

    /// <summary>Before every reply to an option.</summary>
    public const ulong OptionReplyMagic = 0x3e889045565a9;

    public const uint RequestMagic = 0x25609513;
    public const uint ExtendedRequestMagic = 0x21e41c71;
    public const uint SimpleReplyMagic = 0x67446698;
    public const uint StructuredReplyMagic = 0x668e33ef;
    public const uint ExtendedReplyMagic = 0x6e8a278c;

    /// <summary>Zeroes after an export's facts, unless both sides agreed to leave them out.</summary>
    public const int ReservedZeroes = 124;

    /// <summary>Longest name of an export, and longest text from a server, bytes.</summary>
    public const int MaxString = 4096;

    /// <summary>Payload that every server accepts, bytes.</summary>
    public const int DefaultMaxPayload = 32 << 20;

    /// <summary>The context of block status that says where data is.</summary>
    public const string AllocationContext = "base:allocation";

    /// <summary>TCP port, where none is given.</summary>
    public const int DefaultPort = 10809;
}

/// <summary>What a newstyle server offers in its greeting.</summary>
[Flags]
internal enum NbdHandshakeFlags : ushort
{
    None = 0,
    FixedNewStyle = 1,
    NoZeroes = 2,
}

/// <summary>Options of the handshake.</summary>
internal enum NbdOption : uint
{
    ExportName = 1,
    Abort = 2,
    List = 3,
    StartTls = 5,
    Info = 6,
    Go = 7,
    StructuredReply = 8,
    SetMetaContext = 10,
    ExtendedHeaders = 11,
}

/// <summary>Replies to options; those with the top bit are errors.</summary>
internal enum NbdOptionReply : uint
{
    Ack = 1,
    Server = 2,
    Info = 3,
    MetaContext = 4,
    Unsupported = 0x80000001,
    Policy = 0x80000002,
    Invalid = 0x80000003,
    Platform = 0x80000004,
    TlsRequired = 0x80000005,
    Unknown = 0x80000006,
    Shutdown = 0x80000007,
    BlockSizeRequired = 0x80000008,
    TooBig = 0x80000009,
    ExtendedHeadersRequired = 0x8000000A,
}

/// <summary>Kinds of facts in a reply to GO.</summary>
internal enum NbdInfo : ushort
{
    Export = 0,
    Name = 1,
    Description = 2,
    BlockSize = 3,
}

/// <summary>What an export can do ("transmission flags").</summary>
[Flags]
internal enum NbdExportFlags : ushort
{
    None = 0,
    HasFlags = 1,
    ReadOnly = 2,
    SendFlush = 4,
    SendFua = 8,
    Rotational = 16,
    SendTrim = 32,
    SendWriteZeroes = 64,
    SendDf = 128,
    CanMultiConn = 256,
    SendResize = 512,
    SendCache = 1024,
    SendFastZero = 2048,
}

/// <summary>Requests.</summary>
internal enum NbdCommand : ushort
{
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    Cache = 5,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// <summary>Modifiers of a request.</summary>
[Flags]
internal enum NbdCommandFlags : ushort
{
    None = 0,
    Fua = 1,
    NoHole = 2,
    FastZero = 16,

    /// <summary>The length counts payload that follows; only with extended headers.</summary>
    PayloadLength = 32,
}

/// <summary>Kinds of chunks in a structured reply; those with the top bit are errors.</summary>
internal enum NbdChunk : ushort
{
    None = 0,
    OffsetData = 1,
    OffsetHole = 2,
    BlockStatus = 5,
    BlockStatusExtended = 6,
    Error = 0x8001,
    ErrorOffset = 0x8002,
}

/// <summary>An option before its data.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdOptionHeader(Be64 Magic, Be32 Option, Be32 Length);

/// <summary>A reply to an option before its data.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdOptionReplyHeader(Be64 Magic, Be32 Option, Be32 Type, Be32 Length);

/// <summary>A request before its payload.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdRequestHeader(
    Be32 Magic, Be16 Flags, Be16 Command, Be64 Cookie, Be64 Offset, Be32 Length);

/// <summary>A request before its payload, with extended headers.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdExtendedRequestHeader(
    Be32 Magic, Be16 Flags, Be16 Command, Be64 Cookie, Be64 Offset, Be64 Length);

/// <summary>A simple reply after its magic.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdSimpleReply(Be32 Error, Be64 Cookie);

/// <summary>A chunk of a structured reply after its magic.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdStructuredReply(Be16 Flags, Be16 Type, Be64 Cookie, Be32 Length);

/// <summary>A chunk of a reply with extended headers, after its magic.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct NbdExtendedReply(Be16 Flags, Be16 Type, Be64 Cookie, Be64 Offset, Be64 Length);
