using System.Buffers.Binary;
using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>
/// INIT, as a pure function: what the kernel offers and what we want give the answer. fuse_init_in has 16 bytes up to
/// 7.35 and 64 from 7.36 on (flags2); fuse_init_out has 64 bytes since 7.23.
/// </summary>
internal readonly record struct FuseNegotiation
{
    /// <summary>0, or the positive errno with which INIT is answered.</summary>
    public int Error { get; init; }

    /// <summary>Why, for people.</summary>
    public string? Problem { get; init; }

    /// <summary>The kernel's major version is newer: answer ours, and expect a second INIT.</summary>
    public bool Again { get; init; }

    /// <summary>What was agreed on, when neither of the above.</summary>
    public FuseConnectionInfo? Info { get; init; }

    public uint MaxReadahead { get; init; }
    public ushort MaxPages { get; init; }
    public ushort MaxBackground { get; init; }
    public ushort CongestionThreshold { get; init; }
    public uint TimeGranularity { get; init; }
    public uint MaxStackDepth { get; init; }

    /// <summary>Negotiates.</summary>
    /// <param name="body">fuse_init_in.</param>
    /// <param name="options">Our wishes.</param>
    /// <param name="maxRequestBytes">The largest payload our buffers hold.</param>
    public static FuseNegotiation Negotiate(ReadOnlySpan<byte> body, FuseSessionOptions options, int maxRequestBytes)
    {
        uint major = U32(body, 0);
        uint minor = U32(body, 4);
        if (major < FuseConstants.FUSE_KERNEL_VERSION
            || (major == FuseConstants.FUSE_KERNEL_VERSION && minor < FuseConstants.MinimumMinor))
        {
            return new FuseNegotiation
            {
                Error = Errno.EPROTO,
                Problem = $"The kernel speaks FUSE {major}.{minor}; "
                    + $"7.{FuseConstants.MinimumMinor} (Linux 3.15) or newer is needed.",
            };
        }
        if (major > FuseConstants.FUSE_KERNEL_VERSION)
        {
            return new FuseNegotiation { Again = true };
        }
        if (body.Length < 16)
        {
            return new FuseNegotiation
            {
                Error = Errno.EPROTO,
                Problem = $"The kernel's INIT has {body.Length} bytes; 16 were expected.",
            };
        }
        return Agree(body, minor, options, maxRequestBytes);
    }

    /// <summary>fuse_init_out, 64 bytes.</summary>
    public void Write(Span<byte> to)
    {
        to[..WireSize.InitOut].Clear();
        WireWriter.U32(to, 0, FuseConstants.FUSE_KERNEL_VERSION);
        WireWriter.U32(to, 4, FuseConstants.FUSE_KERNEL_MINOR_VERSION);
        if (Again || Info is null)
        {
            return;
        }
        WireWriter.U32(to, 8, MaxReadahead);
        WireWriter.U32(to, 12, (uint)Info.Flags);
        WireWriter.U16(to, 16, MaxBackground);
        WireWriter.U16(to, 18, CongestionThreshold);
        WireWriter.U32(to, 20, (uint)Info.MaxWrite);
        WireWriter.U32(to, 24, TimeGranularity);
        WireWriter.U16(to, 28, MaxPages);
        WireWriter.U16(to, 30, 0); // map_alignment: DAX only
        WireWriter.U32(to, 32, (uint)(Info.Flags >> 32));
        WireWriter.U32(to, 36, MaxStackDepth);
    }

    private static FuseNegotiation Agree(ReadOnlySpan<byte> body, uint minor, FuseSessionOptions options, int maxBytes)
    {
        uint readahead = U32(body, 8);
        ulong offered = U32(body, 12);
        if ((offered & FuseConstants.FUSE_INIT_EXT) != 0 && body.Length >= 20)
        {
            offered |= (ulong)U32(body, 16) << 32;
        }
        ulong flags = offered & Wanted(options);
        bool writeback = (flags & FuseConstants.FUSE_WRITEBACK_CACHE) != 0;
        if (writeback)
        {
            flags &= ~FuseConstants.FUSE_PASSTHROUGH; // the kernel refuses both together
        }
        if ((flags >> 32) == 0)
        {
            flags &= ~FuseConstants.FUSE_INIT_EXT;
        }
        int pages = (flags & FuseConstants.FUSE_MAX_PAGES) != 0
            ? Math.Clamp(maxBytes / FuseConstants.PageSize, 1, ushort.MaxValue)
            : FuseConstants.DefaultMaxPages;
        int bytes = Math.Min(maxBytes, pages * FuseConstants.PageSize);
        int background = Math.Clamp(options.MaxBackground, 1, ushort.MaxValue);
        int threshold = options.CongestionThreshold > 0 ? options.CongestionThreshold : background * 3 / 4;
        bool passthrough = (flags & FuseConstants.FUSE_PASSTHROUGH) != 0;
        return new FuseNegotiation
        {
            MaxReadahead = options.MaxReadahead > 0 ? Math.Min(readahead, (uint)options.MaxReadahead) : readahead,
            MaxPages = (ushort)((flags & FuseConstants.FUSE_MAX_PAGES) != 0 ? pages : 0),
            MaxBackground = (ushort)background,
            CongestionThreshold = (ushort)Math.Clamp(threshold, 1, background),
            TimeGranularity = options.TimeGranularity,
            MaxStackDepth = passthrough ? (uint)Math.Clamp(options.PassthroughStackDepth, 1, 2) : 0,
            Info = new FuseConnectionInfo
            {
                Minor = (int)Math.Min(minor, FuseConstants.FUSE_KERNEL_MINOR_VERSION),
                MaxWrite = (flags & FuseConstants.FUSE_BIG_WRITES) != 0 ? bytes : FuseConstants.PageSize,
                MaxRead = bytes,
                MaxReadahead = (int)Math.Min(readahead, (uint)Math.Max(options.MaxReadahead, 0)),
                WritebackCache = writeback,
                Passthrough = passthrough,
                Flags = flags,
            },
        };
    }

    // Not wanted: POSIX and flock locks (local ones do), EXPORT_SUPPORT (lookups of "." and ".."), NO_OPEN_SUPPORT
    // (handles and open flags matter to us), POSIX_ACL, splice flags (they only tell what read and write can do).
    private static ulong Wanted(FuseSessionOptions options)
    {
        ulong wanted = FuseConstants.FUSE_ASYNC_READ | FuseConstants.FUSE_BIG_WRITES
            | FuseConstants.FUSE_ASYNC_DIO | FuseConstants.FUSE_PARALLEL_DIROPS
            | FuseConstants.FUSE_DO_READDIRPLUS | FuseConstants.FUSE_READDIRPLUS_AUTO | FuseConstants.FUSE_MAX_PAGES
            | FuseConstants.FUSE_CACHE_SYMLINKS | FuseConstants.FUSE_SETXATTR_EXT | FuseConstants.FUSE_INIT_EXT
            | FuseConstants.FUSE_DIRECT_IO_ALLOW_MMAP | FuseConstants.FUSE_NO_EXPORT_SUPPORT;
        wanted |= options.AutoInvalidateData
            ? FuseConstants.FUSE_AUTO_INVAL_DATA
            : FuseConstants.FUSE_EXPLICIT_INVAL_DATA;
        if (options.AtomicTruncate)
        {
            wanted |= FuseConstants.FUSE_ATOMIC_O_TRUNC;
        }
        if (options.HandleKillPriv)
        {
            wanted |= FuseConstants.FUSE_HANDLE_KILLPRIV_V2;
        }
        if (options.WritebackCache && !options.ReadOnly)
        {
            wanted |= FuseConstants.FUSE_WRITEBACK_CACHE;
        }
        if (options.Passthrough)
        {
            wanted |= FuseConstants.FUSE_PASSTHROUGH;
        }
        if (options.Transport == FuseTransportKind.Uring)
        {
            wanted |= FuseConstants.FUSE_OVER_IO_URING;
        }
        return wanted;
    }

    private static uint U32(ReadOnlySpan<byte> body, int at) =>
        body.Length >= at + 4 ? BinaryPrimitives.ReadUInt32LittleEndian(body[at..]) : 0;
}
