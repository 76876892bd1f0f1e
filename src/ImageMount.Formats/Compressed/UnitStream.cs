using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// The decoding of one unit, from its start: stored bytes go in, in order and in pieces of any size, decoded bytes come
/// out. One user at a time.
/// </summary>
internal abstract class UnitStream : IDisposable
{
    /// <summary>
    /// Goes on as far as input and room allow. True: the unit has ended, and its checks are right. Damage is a
    /// <see cref="BlockException"/>. Nothing taken and nothing given: it cannot go on with what it has.
    /// </summary>
    public abstract bool Step(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given);

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Turns a decoder's answer into the stream's.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="status">What it said.</param>
    /// <param name="what">What is being decoded: "an xz block".</param>
    internal static bool IsEnd(NativeDecoder decoder, NativeDecodeStatus status, string what) => status switch
    {
        NativeDecodeStatus.More => false,
        NativeDecodeStatus.End => true,
        NativeDecodeStatus.Unsupported => throw BlockException.Unsupported(
            $"{what} cannot be decoded: {decoder.Error}"),
        NativeDecodeStatus.MemoryLimit => throw new BlockException(
            BlockErrorKind.LimitExceeded, $"{what} cannot be decoded: {decoder.Error}")
        {
            Hint = "If you trust the file, allow more with the option decoder-memory.",
        },
        _ => throw BlockException.Invalid($"{what} is damaged ({decoder.Error})"),
    };
}
