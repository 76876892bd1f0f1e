using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libdeflate's one-shot inflater, loaded on demand. It takes a whole compressed unit and a whole place for what comes out,
/// which is why it is about twice as fast as an inflater that may be stopped at every byte.
/// </summary>
public static unsafe partial class LibDeflate
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libdeflate.so.0";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libdeflate0";

    [ThreadStatic]
    private static InflaterHandle? _inflater;

    private static readonly Lazy<bool> Loaded = new(() =>
        NativeLibrary.TryLoad(FileName, out nint library)
            && NativeLibrary.TryGetExport(library, nameof(libdeflate_deflate_decompress_ex), out _));

    /// <summary>True when the library is installed, could be loaded, and is not older than 1.0.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>
    /// Decodes a deflate stream (RFC 1951), or one in a zlib container (RFC 1950) with its checksum verified, which
    /// fills <paramref name="destination"/> exactly. Bytes after the end of the stream are ignored. False: it is damaged,
    /// shorter or longer than that, and what <paramref name="destination"/> holds means nothing.
    /// </summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, Span<byte> destination, bool zlib)
    {
        InflaterHandle inflater = _inflater ??= InflaterHandle.Create();
        int result;

        // SAFETY: the pointers are used during the call only, each with its span's own length; the inflater belongs to
        // this thread. Without a place for the number of bytes written, any number but the capacity is an error.
        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            result = zlib
                ? libdeflate_zlib_decompress_ex(
                    inflater, from, (nuint)source.Length, to, (nuint)destination.Length, out _, null)
                : libdeflate_deflate_decompress_ex(
                    inflater, from, (nuint)source.Length, to, (nuint)destination.Length, out _, null);
        }

        return result == 0;
    }

    [LibraryImport(FileName)]
    internal static partial nint libdeflate_alloc_decompressor();

    [LibraryImport(FileName)]
    internal static partial void libdeflate_free_decompressor(nint inflater);

    [LibraryImport(FileName)]
    private static partial int libdeflate_deflate_decompress_ex(
        InflaterHandle inflater, byte* source, nuint sourceSize, byte* destination, nuint capacity, out nuint consumed,
        nuint* written);

    [LibraryImport(FileName)]
    private static partial int libdeflate_zlib_decompress_ex(
        InflaterHandle inflater, byte* source, nuint sourceSize, byte* destination, nuint capacity, out nuint consumed,
        nuint* written);
}

/// <summary>A libdeflate_decompressor; one a thread, freed with the thread that it belongs to.</summary>
internal sealed class InflaterHandle : SafeHandle
{
    /// <summary>For the marshaller.</summary>
    public InflaterHandle()
        : base(0, ownsHandle: true)
    {
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Makes an inflater. Throws <see cref="OutOfMemoryException"/>.</summary>
    public static InflaterHandle Create()
    {
        var inflater = new InflaterHandle();
        nint pointer = LibDeflate.libdeflate_alloc_decompressor();
        if (pointer == 0)
        {
            throw new OutOfMemoryException("libdeflate_alloc_decompressor");
        }

        inflater.SetHandle(pointer);
        return inflater;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        LibDeflate.libdeflate_free_decompressor(handle);
        return true;
    }
}
