namespace ImageMount.Core.Block;

/// <summary>What a device can do; fixed when it is opened.</summary>
[Flags]
public enum BlockCapabilities
{
    /// <summary>Reading only.</summary>
    None = 0,

    /// <summary>Guest data may be written.</summary>
    Write = 1,

    /// <summary>Zeroing is cheaper than writing zeroes.</summary>
    Zero = 2,

    /// <summary>Discarded ranges free space.</summary>
    Discard = 4,

    /// <summary><see cref="WriteFlags.Fua"/> is honoured by the device itself.</summary>
    Fua = 8,

    /// <summary>The length can change.</summary>
    Resize = 16,

    /// <summary><see cref="BlockDevice.MapAsync"/> knows more than "all data".</summary>
    Map = 32,
}

/// <summary>How a write or a zeroing is to be made durable.</summary>
[Flags]
public enum WriteFlags
{
    /// <summary>Durable after the next flush.</summary>
    None = 0,

    /// <summary>Forced unit access: durable when the task completes.</summary>
    Fua = 1,
}

/// <summary>How a range is to be zeroed.</summary>
[Flags]
public enum ZeroFlags
{
    /// <summary>Read back as zeroes; space stays as it is where that is cheap.</summary>
    None = 0,

    /// <summary>Durable when the task completes.</summary>
    Fua = 1,

    /// <summary>The space may be freed.</summary>
    MayUnmap = 2,
}

/// <summary>What a device's requests must look like; fixed when it is opened. All values are bytes.</summary>
public readonly record struct BlockLimits
{
    /// <summary>No constraint at all.</summary>
    public static readonly BlockLimits Default = new() { RequestAlignment = 1, MemoryAlignment = 1 };

    /// <summary>
    /// Power of two, 1…64 KiB. <see cref="BlockNode"/> sends only requests whose offset and length are multiples of it,
    /// except that a request may end at the device's length.
    /// </summary>
    public int RequestAlignment { get; init; }

    /// <summary>Power of two: the address of the buffer is a multiple of it.</summary>
    public int MemoryAlignment { get; init; }

    /// <summary>Largest read or write in one call; 0 for no limit. A multiple of <see cref="RequestAlignment"/>.</summary>
    public int MaxTransfer { get; init; }

    /// <summary>Size and alignment at which I/O is cheapest (a cluster, a network chunk); 0 when there is none.</summary>
    public int OptimalTransfer { get; init; }

    /// <summary>Largest zeroing or discard in one call; 0 for no limit.</summary>
    public long MaxZero { get; init; }
}

/// <summary>What is known of a range of a disk.</summary>
[Flags]
public enum ExtentFlags
{
    /// <summary>Nothing is stored for the range in this disk or any of its parents.</summary>
    None = 0,

    /// <summary>The range holds stored bytes.</summary>
    Data = 1,

    /// <summary>The range reads as zeroes.</summary>
    Zero = 2,

    /// <summary>Some layer of the chain defines the range (qemu-img map's "present").</summary>
    Present = 4,

    /// <summary>The bytes are stored compressed.</summary>
    Compressed = 8,

    /// <summary><see cref="BlockExtent.HostOffset"/> and <see cref="BlockExtent.HostNode"/> say where the bytes are.</summary>
    HostOffset = 16,
}

/// <summary>
/// The state of the first <see cref="Length"/> bytes of a range that was asked about. Length is at least 1 and at most
/// what was asked for.
/// </summary>
/// <param name="Length">Bytes that share this state.</param>
/// <param name="Flags">What is known.</param>
/// <param name="Depth">0: this image; 1: its backing file; and so on.</param>
/// <param name="HostOffset">Byte offset in <paramref name="HostNode"/>, where the flag says so.</param>
/// <param name="HostNode">The node that stores the bytes, where the flag says so.</param>
public readonly record struct BlockExtent(
    long Length, ExtentFlags Flags, int Depth = 0, long HostOffset = 0, BlockNode? HostNode = null)
{
    /// <summary>True when the range reads as zeroes.</summary>
    public bool IsZero => (Flags & ExtentFlags.Zero) != 0;

    /// <summary>True when the range holds stored bytes.</summary>
    public bool IsData => (Flags & ExtentFlags.Data) != 0;
}

/// <summary>A region of a host file that is byte for byte what a node shows: the kernel may serve it itself.</summary>
/// <param name="Handle">Open handle of the host file, owned by the device.</param>
/// <param name="Offset">Where the region begins in the file, bytes.</param>
public readonly record struct HostFileRegion(Microsoft.Win32.SafeHandles.SafeFileHandle Handle, long Offset);
