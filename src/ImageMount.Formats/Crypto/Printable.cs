namespace ImageMount.Formats.Crypto;

/// <summary>Words out of images, for messages.</summary>
internal static class Printable
{
    private const int MaxLength = 40;

    /// <summary>The word, without what could steer a terminal, and not too long.</summary>
    public static string Of(string word)
    {
        string start = word.Length <= MaxLength ? word : word[..MaxLength];
        return string.Create(start.Length, start, static (span, source) =>
        {
            for (int i = 0; i < span.Length; i++)
            {
                span[i] = source[i] is >= ' ' and < '\x7f' ? source[i] : '?';
            }
        });
    }
}
