using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libbz2's decoder of one bzip2 stream; the checksums of blocks and stream are verified. Loaded on demand.
/// </summary>
public sealed unsafe partial class Bzip2StreamDecoder : NativeDecoder
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libbz2.so.1.0";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libbz2-1.0";

    private const int BZ_OK = 0;
    private const int BZ_STREAM_END = 4;
    private const int BZ_MEM_ERROR = -3;
    private const int BZ_DATA_ERROR = -4;
    private const int BZ_DATA_ERROR_MAGIC = -5;

    private static readonly Lazy<bool> Loaded = new(() => CanLoad(FileName));

    /// <summary>Starts at the beginning of a stream.</summary>
    public Bzip2StreamDecoder()
        : base(sizeof(BzStream))
    {
        if (BZ2_bzDecompressInit((BzStream*)handle, 0, 0) != BZ_OK)
        {
            throw new OutOfMemoryException("BZ2_bzDecompressInit");
        }
    }

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    private protected override NativeDecodeStatus Decode(
        byte* from, int stored, byte* to, int room, out int taken, out int given)
    {
        // SAFETY: the structure is this handle's, zeroed before the library initialised it; the caller's pointers are
        // used during the call only.
        var stream = (BzStream*)handle;
        stream->NextIn = from;
        stream->AvailIn = (uint)stored;
        stream->NextOut = to;
        stream->AvailOut = (uint)room;
        int result = BZ2_bzDecompress(stream);
        taken = stored - (int)stream->AvailIn;
        given = room - (int)stream->AvailOut;
        switch (result)
        {
            case BZ_OK:
                return NativeDecodeStatus.More;
            case BZ_STREAM_END:
                return NativeDecodeStatus.End;
            case BZ_MEM_ERROR:
                Error = "there is no memory for it";
                return NativeDecodeStatus.MemoryLimit;
            default:
                Error = result switch
                {
                    BZ_DATA_ERROR => "its data is damaged",
                    BZ_DATA_ERROR_MAGIC => "it is not in bzip2 format",
                    _ => $"error {result}",
                };
                return NativeDecodeStatus.Damaged;
        }
    }

    private protected override void End() => BZ2_bzDecompressEnd((BzStream*)handle);

    [LibraryImport(FileName)]
    private static partial int BZ2_bzDecompressInit(BzStream* stream, int verbosity, int small);

    [LibraryImport(FileName)]
    private static partial int BZ2_bzDecompress(BzStream* stream);

    [LibraryImport(FileName)]
    private static partial int BZ2_bzDecompressEnd(BzStream* stream);

    /// <summary>bz_stream (bzlib.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct BzStream
    {
        public byte* NextIn;
        public uint AvailIn;
        public uint TotalInLow;
        public uint TotalInHigh;
        public byte* NextOut;
        public uint AvailOut;
        public uint TotalOutLow;
        public uint TotalOutHigh;
        public nint State;
        public nint Alloc;
        public nint Free;
        public nint Opaque;
    }
}
