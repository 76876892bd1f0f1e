using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>libzstd's decoder of one frame, in pieces; sizes and checksum are verified. Loaded on demand.</summary>
public sealed unsafe partial class ZstdFrameDecoder : NativeDecoder
{
    private const int ZSTD_d_windowLogMax = 100;
    private const int ZSTD_error_memory_allocation = 64;
    private const int ZSTD_error_frameParameter_windowTooLarge = 16;

    private readonly ZstdContextHandle _context = ZstdContextHandle.Create();
    private bool _ended;

    /// <summary>Starts at the beginning of a frame.</summary>
    /// <param name="windowLogMax">Largest window that the frame may ask for, as a power of two.</param>
    public ZstdFrameDecoder(int windowLogMax)
        : base(1) => ZSTD_DCtx_setParameter(_context, ZSTD_d_windowLogMax, windowLogMax);

    private protected override NativeDecodeStatus Decode(
        byte* from, int stored, byte* to, int room, out int taken, out int given)
    {
        taken = given = 0;
        if (_ended)
        {
            return NativeDecodeStatus.End;
        }

        // SAFETY: both structures live on the stack during the call; their pointers are the caller's, with their
        // lengths.
        var input = new ZstdBuffer { Pointer = from, Size = (nuint)stored };
        var output = new ZstdBuffer { Pointer = to, Size = (nuint)room };
        nuint result = ZSTD_decompressStream(_context, &output, &input);
        taken = (int)input.Position;
        given = (int)output.Position;
        if (ZSTD_isError(result) == 0)
        {
            _ended = result == 0;
            return _ended ? NativeDecodeStatus.End : NativeDecodeStatus.More;
        }

        Error = Marshal.PtrToStringUTF8(ZSTD_getErrorName(result)) ?? "error";
        switch (ZSTD_getErrorCode(result))
        {
            case ZSTD_error_memory_allocation or ZSTD_error_frameParameter_windowTooLarge:
                return NativeDecodeStatus.MemoryLimit;
            default:
                return NativeDecodeStatus.Damaged;
        }
    }

    private protected override void End() => _context.Dispose();

    [LibraryImport(ZstdLibrary.FileName)]
    private static partial nuint ZSTD_DCtx_setParameter(ZstdContextHandle context, int parameter, int value);

    [LibraryImport(ZstdLibrary.FileName)]
    private static partial nuint ZSTD_decompressStream(
        ZstdContextHandle context, ZstdBuffer* output, ZstdBuffer* input);

    [LibraryImport(ZstdLibrary.FileName)]
    private static partial uint ZSTD_isError(nuint code);

    [LibraryImport(ZstdLibrary.FileName)]
    private static partial int ZSTD_getErrorCode(nuint code);

    [LibraryImport(ZstdLibrary.FileName)]
    private static partial nint ZSTD_getErrorName(nuint code);

    /// <summary>ZSTD_inBuffer and ZSTD_outBuffer (zstd.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ZstdBuffer
    {
        public byte* Pointer;
        public nuint Size;
        public nuint Position;
    }
}
