namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>The step that all Lempel-Ziv decoders share: repeating what was decoded before.</summary>
internal static class LzMatch
{
    /// <summary>
    /// Appends <paramref name="length"/> bytes that begin <paramref name="distance"/> bytes before
    /// <paramref name="at"/>; they may overlap themselves, and then repeat. The caller has checked that the distance is
    /// 1…<paramref name="at"/> and that the bytes fit.
    /// </summary>
    public static void Copy(Span<byte> output, int at, int distance, int length)
    {
        int start = at - distance;
        if (distance >= length)
        {
            output.Slice(start, length).CopyTo(output[at..]);
            return;
        }

        if (distance == 1)
        {
            output.Slice(at, length).Fill(output[start]);
            return;
        }

        // What is there repeats with the period "distance": each round doubles it.
        int end = at + length;
        while (at < end)
        {
            int count = Math.Min(at - start, end - at);
            output.Slice(start, count).CopyTo(output[at..]);
            at += count;
        }
    }
}
