using System.Runtime.InteropServices;

namespace ImageMount.Formats.Crypto;

/// <summary>Exclusive or of spans.</summary>
internal static class Xor
{
    /// <summary>Adds <paramref name="source"/> to <paramref name="target"/>; equally long, a multiple of 8.</summary>
    public static void Into(Span<byte> target, ReadOnlySpan<byte> source)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(target);
        ReadOnlySpan<ulong> others = MemoryMarshal.Cast<byte, ulong>(source)[..words.Length];
        for (int i = 0; i < words.Length; i++)
        {
            words[i] ^= others[i];
        }
    }
}
