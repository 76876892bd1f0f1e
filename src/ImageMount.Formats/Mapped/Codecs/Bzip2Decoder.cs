using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>A bzip2 stream of exactly one unit, checksums verified; slack may follow it.</summary>
public sealed class Bzip2Decoder : IUnitDecoder
{
    private Bzip2Decoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static Bzip2Decoder Instance { get; } = new();

    /// <summary>Fails with NotSupported when libbz2 is missing: for when an image is opened, not read.</summary>
    public static void RequireLibrary()
    {
        if (!Bzip2Library.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"bzip2 compression needs {Bzip2Library.FileName}, which could not be loaded",
                $"Install it: apt install {Bzip2Library.DebianPackage}");
        }
    }

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        RequireLibrary();
        if (!Bzip2Library.TryDecompress(stored, decoded, out int written, out string? error)
            || written < decoded.Length)
        {
            throw BlockException.Invalid(
                $"a bzip2 unit is damaged ({error ?? "it is too short"})", null, $"{written} bytes",
                $"{decoded.Length} bytes");
        }
    }
}
