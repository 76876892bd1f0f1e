using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Cloop;

/// <summary>
/// On-disk constants of cloop, the compressed loop images of Knoppix, version 2 (the layout is that of the kernel
/// module's "compressed_loop.h"), and limits.
/// </summary>
internal static class CloopLayout
{
    /// <summary>Bytes before the header: a shell script that mounts the image, padded.</summary>
    public const int PreambleSize = 128;

    /// <summary>Largest block, bytes.</summary>
    public const int MaxBlockSize = 64 << 20;

    /// <summary>Most blocks: a terabyte of the usual 64 KiB.</summary>
    public const int MaxBlocks = 16 << 20;

    /// <summary>How the preamble of every version begins; the version follows.</summary>
    public static ReadOnlySpan<byte> Script => "#!/bin/sh\n#V"u8;
}

/// <summary>The header; block offsets follow it, one more than there are blocks.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct CloopHeader
{
    public Be32 BlockSize;
    public Be32 BlockCount;
}
