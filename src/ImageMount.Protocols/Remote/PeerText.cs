using System.Text;

namespace ImageMount.Protocols.Remote;

/// <summary>Words of a peer, which may be anything.</summary>
internal static class PeerText
{
    /// <summary>Text of a server for a message: control characters made visible, the end cut off. Null for none.</summary>
    public static string? Clean(ReadOnlySpan<byte> utf8)
    {
        const int Longest = 300;
        var text = new StringBuilder();
        foreach (char c in Encoding.UTF8.GetString(utf8))
        {
            if (text.Length >= Longest)
            {
                return text.Append('…').ToString();
            }

            text.Append(char.IsControl(c) ? '?' : c);
        }

        return text.Length == 0 ? null : text.ToString().Trim();
    }
}
