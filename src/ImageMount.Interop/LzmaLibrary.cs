using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>liblzma's one-shot decoder for .xz streams, loaded on demand.</summary>
public static unsafe partial class LzmaLibrary
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "liblzma.so.5";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "liblzma5";

    private const int LZMA_OK = 0;

    private static readonly Lazy<bool> Loaded = new(() => NativeLibrary.TryLoad(FileName, out _));

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>
    /// Decodes the .xz stream at the start of <paramref name="source"/>; what follows it is ignored. False when it is
    /// damaged, does not fit, or asks for more memory than allowed.
    /// </summary>
    /// <param name="source">One stream.</param>
    /// <param name="destination">Where the bytes go.</param>
    /// <param name="maxMemory">Most bytes that the decoder may allocate, mostly for the stream's dictionary.</param>
    /// <param name="written">Bytes decoded.</param>
    /// <param name="error">What is wrong.</param>
    public static bool TryDecompress(
        ReadOnlySpan<byte> source, Span<byte> destination, long maxMemory, out int written, out string? error)
    {
        ulong memory = (ulong)maxMemory;
        nuint read = 0;
        nuint filled = 0;
        int result;

        // SAFETY: the pointers are used during the call only, each with its span's own length.
        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            result = lzma_stream_buffer_decode(
                &memory, 0, 0, from, &read, (nuint)source.Length, to, &filled, (nuint)destination.Length);
        }

        written = (int)filled;
        error = result switch
        {
            LZMA_OK => null,
            5 => "there is not enough memory",
            6 => FormattableString.Invariant($"it needs {memory} bytes of memory, more than {maxMemory}"),
            7 => "it does not begin with an xz header",
            8 => "it uses options that liblzma does not know",
            9 => "its data or its checksum is wrong",
            10 => "it ends too early or is longer than expected",
            _ => FormattableString.Invariant($"liblzma says {result}"),
        };
        return result == LZMA_OK;
    }

    [LibraryImport(FileName)]
    private static partial int lzma_stream_buffer_decode(
        ulong* memoryLimit, uint flags, nint allocator, byte* source, nuint* sourcePosition, nuint sourceLength,
        byte* destination, nuint* destinationPosition, nuint destinationLength);
}
