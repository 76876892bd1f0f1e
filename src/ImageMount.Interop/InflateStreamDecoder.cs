using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// zlib's inflate on a bare deflate stream, which can stop at the end of every block and start again there: what
/// System.IO.Compression cannot. Loaded on demand.
/// </summary>
public sealed unsafe partial class InflateStreamDecoder : NativeDecoder
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libz.so.1";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "zlib1g";

    /// <summary>Output that a later block may refer back to, bytes.</summary>
    public const int WindowSize = 32 << 10;

    private const int Z_OK = 0;
    private const int Z_STREAM_END = 1;
    private const int Z_BUF_ERROR = -5;
    private const int Z_MEM_ERROR = -4;
    private const int Z_NO_FLUSH = 0;
    private const int Z_BLOCK = 5;
    private const int RawWindowBits = -15;
    private const int AfterBlock = 128;
    private const int InLastBlock = 64;

    private static readonly Lazy<bool> Loaded = new(() => CanLoad(FileName));

    /// <summary>Starts at the beginning of a stream.</summary>
    public InflateStreamDecoder()
        : base(sizeof(ZStream))
    {
        int result = inflateInit2_((ZStream*)handle, RawWindowBits, "1.2.11", sizeof(ZStream));
        if (result != Z_OK)
        {
            throw new OutOfMemoryException("inflateInit2");
        }
    }

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>
    /// Whether <see cref="NativeDecoder.Decode(ReadOnlySpan{byte}, Span{byte}, out int, out int)"/> also returns at the
    /// end of each block.
    /// </summary>
    public bool StopsAtBlocks { get; set; }

    /// <summary>True right after a block that is not the last: the decoder can be started again from here.</summary>
    public bool IsBetweenBlocks => (((ZStream*)handle)->DataType & (AfterBlock | InLastBlock)) == AfterBlock;

    /// <summary>Bits of the last byte taken that belong to what follows, 0…7.</summary>
    public int UnusedBits => ((ZStream*)handle)->DataType & 7;

    /// <summary>CRC-32 of more bytes, begun with 0.</summary>
    public static uint Crc32(uint crc, ReadOnlySpan<byte> bytes)
    {
        // SAFETY: used during the call only, with the span's own length.
        fixed (byte* pointer = bytes)
        {
            return pointer == null ? crc : (uint)crc32_z(crc, pointer, (nuint)bytes.Length);
        }
    }

    /// <summary>CRC-32 of two pieces one after the other.</summary>
    public static uint CombineCrc32(uint first, uint second, long secondLength) =>
        (uint)crc32_combine64(first, second, secondLength);

    /// <summary>Begins another stream.</summary>
    public void Reset() => inflateReset((ZStream*)handle);

    /// <summary>Puts bits before the input.</summary>
    public void Prime(int bits, int value) => inflatePrime((ZStream*)handle, bits, value);

    /// <summary>Says what came before, at the beginning or between blocks.</summary>
    public void SetWindow(ReadOnlySpan<byte> window)
    {
        // SAFETY: copied during the call.
        fixed (byte* pointer = window)
        {
            if (pointer != null)
            {
                inflateSetDictionary((ZStream*)handle, pointer, (uint)window.Length);
            }
        }
    }

    /// <summary>Copies the output that later blocks may refer back to; gives its length.</summary>
    public int GetWindow(Span<byte> window)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(window.Length, WindowSize);
        uint length = 0;

        // SAFETY: at least as long as a window can be.
        fixed (byte* pointer = window)
        {
            inflateGetDictionary((ZStream*)handle, pointer, &length);
        }

        return (int)length;
    }

    private protected override NativeDecodeStatus Decode(
        byte* from, int stored, byte* to, int room, out int taken, out int given)
    {
        var stream = (ZStream*)handle;
        stream->NextIn = from;
        stream->AvailIn = (uint)stored;
        stream->NextOut = to;
        stream->AvailOut = (uint)room;
        int result = inflate(stream, StopsAtBlocks ? Z_BLOCK : Z_NO_FLUSH);
        taken = stored - (int)stream->AvailIn;
        given = room - (int)stream->AvailOut;
        switch (result)
        {
            case Z_OK or Z_BUF_ERROR:
                return NativeDecodeStatus.More;
            case Z_STREAM_END:
                return NativeDecodeStatus.End;
            case Z_MEM_ERROR:
                Error = "there is no memory for it";
                return NativeDecodeStatus.MemoryLimit;
            default:
                Error = Marshal.PtrToStringUTF8(stream->Msg) ?? $"error {result}";
                return NativeDecodeStatus.Damaged;
        }
    }

    private protected override void End() => inflateEnd((ZStream*)handle);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int inflateInit2_(ZStream* stream, int windowBits, string version, int size);

    [LibraryImport(FileName)]
    private static partial int inflate(ZStream* stream, int flush);

    [LibraryImport(FileName)]
    private static partial int inflateEnd(ZStream* stream);

    [LibraryImport(FileName)]
    private static partial int inflateReset(ZStream* stream);

    [LibraryImport(FileName)]
    private static partial int inflatePrime(ZStream* stream, int bits, int value);

    [LibraryImport(FileName)]
    private static partial int inflateSetDictionary(ZStream* stream, byte* dictionary, uint length);

    [LibraryImport(FileName)]
    private static partial int inflateGetDictionary(ZStream* stream, byte* dictionary, uint* length);

    [LibraryImport(FileName)]
    private static partial nuint crc32_z(nuint crc, byte* bytes, nuint length);

    [LibraryImport(FileName)]
    private static partial nuint crc32_combine64(nuint first, nuint second, long secondLength);

    /// <summary>z_stream (zlib.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ZStream
    {
        public byte* NextIn;
        public uint AvailIn;
        public nuint TotalIn;
        public byte* NextOut;
        public uint AvailOut;
        public nuint TotalOut;
        public nint Msg;
        public nint State;
        public nint Zalloc;
        public nint Zfree;
        public nint Opaque;
        public int DataType;
        public nuint Adler;
        public nuint Reserved;
    }
}
