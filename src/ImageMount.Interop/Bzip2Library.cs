using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libbz2's one-shot decoder, loaded on demand. A managed decoder would leave several megabytes of garbage a unit.
/// </summary>
public static unsafe partial class Bzip2Library
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libbz2.so.1.0";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libbz2-1.0";

    private const int BZ_OK = 0;

    private static readonly Lazy<bool> Loaded = new(() => NativeLibrary.TryLoad(FileName, out _));

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    /// <summary>
    /// Decodes the stream at the start of <paramref name="source"/>; what follows it is ignored. False when it is
    /// damaged or does not fit.
    /// </summary>
    /// <param name="source">One stream.</param>
    /// <param name="destination">Where the bytes go.</param>
    /// <param name="written">Bytes decoded.</param>
    /// <param name="error">What is wrong.</param>
    public static bool TryDecompress(
        ReadOnlySpan<byte> source, Span<byte> destination, out int written, out string? error)
    {
        uint length = (uint)destination.Length;
        int result;

        // SAFETY: the pointers are used during the call only, each with its span's own length.
        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            result = BZ2_bzBuffToBuffDecompress(to, &length, from, (uint)source.Length, small: 0, verbosity: 0);
        }

        written = result == BZ_OK ? (int)length : 0;
        error = result switch
        {
            BZ_OK => null,
            -3 => "there is not enough memory",
            -4 => "its data or its checksum is wrong",
            -5 => "it does not begin with a bzip2 header",
            -7 => "it ends too early",
            -8 => "it is longer than expected",
            _ => FormattableString.Invariant($"libbz2 says {result}"),
        };
        return result == BZ_OK;
    }

    [LibraryImport(FileName)]
    private static partial int BZ2_bzBuffToBuffDecompress(
        byte* destination, uint* destinationLength, byte* source, uint sourceLength, int small, int verbosity);
}
