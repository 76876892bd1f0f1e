using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// liblzma's decoder of one .xz stream; checks of blocks, index and footer are verified. Loaded on demand.
/// </summary>
public sealed unsafe partial class XzStreamDecoder : NativeDecoder
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "liblzma.so.5";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "liblzma5";

    private const int LZMA_OK = 0;
    private const int LZMA_STREAM_END = 1;
    private const int LZMA_UNSUPPORTED_CHECK = 3;
    private const int LZMA_MEM_ERROR = 5;
    private const int LZMA_MEMLIMIT_ERROR = 6;
    private const int LZMA_FORMAT_ERROR = 7;
    private const int LZMA_OPTIONS_ERROR = 8;
    private const int LZMA_DATA_ERROR = 9;
    private const int LZMA_BUF_ERROR = 10;
    private const uint LZMA_TELL_UNSUPPORTED_CHECK = 2;
    private const int LZMA_RUN = 0;

    private static readonly Lazy<bool> Loaded = new(() => CanLoad(FileName));

    /// <summary>Starts at the beginning of a stream.</summary>
    /// <param name="memoryLimit">Most memory that the stream may ask for, bytes.</param>
    public XzStreamDecoder(long memoryLimit)
        : base(sizeof(LzmaStream))
    {
        if (lzma_stream_decoder((LzmaStream*)handle, (ulong)memoryLimit, LZMA_TELL_UNSUPPORTED_CHECK) != LZMA_OK)
        {
            throw new OutOfMemoryException("lzma_stream_decoder");
        }
    }

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>CRC-32 as the format uses it.</summary>
    public static uint Crc32(ReadOnlySpan<byte> bytes)
    {
        // SAFETY: used during the call only, with the span's own length.
        fixed (byte* pointer = bytes)
        {
            return lzma_crc32(pointer, (nuint)bytes.Length, 0);
        }
    }

    private protected override NativeDecodeStatus Decode(
        byte* from, int stored, byte* to, int room, out int taken, out int given)
    {
        var stream = (LzmaStream*)handle;
        stream->NextIn = from;
        stream->AvailIn = (nuint)stored;
        stream->NextOut = to;
        stream->AvailOut = (nuint)room;
        int result = lzma_code(stream, LZMA_RUN);
        taken = stored - (int)stream->AvailIn;
        given = room - (int)stream->AvailOut;
        switch (result)
        {
            case LZMA_OK or LZMA_BUF_ERROR:
                return NativeDecodeStatus.More;
            case LZMA_STREAM_END:
                return NativeDecodeStatus.End;
            case LZMA_MEM_ERROR:
                Error = "there is no memory for it";
                return NativeDecodeStatus.MemoryLimit;
            case LZMA_MEMLIMIT_ERROR:
                ulong needed = lzma_memusage(stream);
                Error = $"it needs {needed} bytes of memory";
                return NativeDecodeStatus.MemoryLimit;
            case LZMA_UNSUPPORTED_CHECK or LZMA_OPTIONS_ERROR:
                Error = result == LZMA_OPTIONS_ERROR
                    ? "it uses options that liblzma does not know" : "it uses a check that liblzma does not know";
                return NativeDecodeStatus.Unsupported;
            default:
                Error = result switch
                {
                    LZMA_FORMAT_ERROR => "it is not in .xz format",
                    LZMA_DATA_ERROR => "its data is damaged",
                    _ => $"error {result}",
                };
                return NativeDecodeStatus.Damaged;
        }
    }

    private protected override void End() => lzma_end((LzmaStream*)handle);

    [LibraryImport(FileName)]
    private static partial int lzma_stream_decoder(LzmaStream* stream, ulong memoryLimit, uint flags);

    [LibraryImport(FileName)]
    private static partial int lzma_code(LzmaStream* stream, int action);

    [LibraryImport(FileName)]
    private static partial uint lzma_crc32(byte* bytes, nuint length, uint crc);

    [LibraryImport(FileName)]
    private static partial ulong lzma_memusage(LzmaStream* stream);

    [LibraryImport(FileName)]
    private static partial void lzma_end(LzmaStream* stream);

    /// <summary>lzma_stream (lzma/base.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct LzmaStream
    {
        public byte* NextIn;
        public nuint AvailIn;
        public ulong TotalIn;
        public byte* NextOut;
        public nuint AvailOut;
        public ulong TotalOut;
        public nint Allocator;
        public nint Internal;
        public nint ReservedPointer1;
        public nint ReservedPointer2;
        public nint ReservedPointer3;
        public nint ReservedPointer4;
        public ulong SeekPosition;
        public ulong ReservedInt2;
        public nuint ReservedInt3;
        public nuint ReservedInt4;
        public int ReservedEnum1;
        public int ReservedEnum2;
    }
}
