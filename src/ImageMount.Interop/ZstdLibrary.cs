using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libzstd's one-shot decoder, loaded on demand. A frame is decoded straight into the caller's memory, so the window
/// that a frame asks for costs nothing, however large a hostile one claims it to be.
/// </summary>
public static unsafe partial class ZstdLibrary
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libzstd.so.1";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libzstd1";

    [ThreadStatic]
    private static ZstdContextHandle? _context;

    private static readonly Lazy<bool> Loaded = new(() => NativeLibrary.TryLoad(FileName, out _));

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>
    /// Length in bytes of the frame at the start of <paramref name="source"/>; false when there is no whole, well-formed
    /// frame, with the library's word for it.
    /// </summary>
    public static bool TryFindFrame(ReadOnlySpan<byte> source, out int length, out string? error)
    {
        nuint result;

        // SAFETY: the pointer is used during the call only, with the span's own length.
        fixed (byte* pointer = source)
        {
            result = ZSTD_findFrameCompressedSize(pointer, (nuint)source.Length);
        }

        return Unpack(result, out length, out error);
    }

    /// <summary>Decodes one whole frame; false when it is damaged or does not fit, with the library's word for it.</summary>
    /// <param name="frame">Exactly one frame, as <see cref="TryFindFrame"/> measured it.</param>
    /// <param name="destination">Where the bytes go.</param>
    /// <param name="written">Bytes decoded.</param>
    /// <param name="error">The library's word for what is wrong.</param>
    public static bool TryDecompress(
        ReadOnlySpan<byte> frame, Span<byte> destination, out int written, out string? error)
    {
        ZstdContextHandle context = _context ??= ZstdContextHandle.Create();
        nuint result;

        // SAFETY: the pointers are used during the call only, each with its span's own length; the context belongs to
        // this thread.
        fixed (byte* from = frame)
        fixed (byte* to = destination)
        {
            result = ZSTD_decompressDCtx(
                context, to, (nuint)destination.Length, from, (nuint)frame.Length);
        }

        return Unpack(result, out written, out error);
    }

    private static bool Unpack(nuint result, out int value, out string? error)
    {
        if (ZSTD_isError(result) != 0)
        {
            value = 0;
            error = Marshal.PtrToStringUTF8(ZSTD_getErrorName(result));
            return false;
        }

        value = checked((int)result);
        error = null;
        return true;
    }

    [LibraryImport(FileName)]
    internal static partial nint ZSTD_createDCtx();

    [LibraryImport(FileName)]
    internal static partial nuint ZSTD_freeDCtx(nint context);

    [LibraryImport(FileName)]
    private static partial nuint ZSTD_findFrameCompressedSize(byte* source, nuint sourceSize);

    [LibraryImport(FileName)]
    private static partial nuint ZSTD_decompressDCtx(
        ZstdContextHandle context, byte* destination, nuint capacity, byte* source, nuint sourceSize);

    [LibraryImport(FileName)]
    private static partial uint ZSTD_isError(nuint code);

    [LibraryImport(FileName)]
    private static partial nint ZSTD_getErrorName(nuint code);
}

/// <summary>A ZSTD_DCtx; one a thread, freed with the thread that it belongs to.</summary>
internal sealed class ZstdContextHandle : SafeHandle
{
    /// <summary>For the marshaller.</summary>
    public ZstdContextHandle()
        : base(0, ownsHandle: true)
    {
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context. Throws <see cref="OutOfMemoryException"/>.</summary>
    public static ZstdContextHandle Create()
    {
        var context = new ZstdContextHandle();
        nint pointer = ZstdLibrary.ZSTD_createDCtx();
        if (pointer == 0)
        {
            throw new OutOfMemoryException("ZSTD_createDCtx");
        }

        context.SetHandle(pointer);
        return context;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        ZstdLibrary.ZSTD_freeDCtx(handle);
        return true;
    }
}
