using System.Globalization;
using System.Text;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>
/// Literal bytes, written so that one can read them: <c>4:7</c> is 7 in four little-endian bytes, <c>2:</c> and
/// <c>8:</c> likewise (hex with 0x, negative values allowed), <c>'text'</c> is ASCII, <c>0</c> a zero byte,
/// <c>z16</c> sixteen zero bytes, <c>x:0a0b</c> hex. Nothing here knows the structures of the protocol.
/// </summary>
internal static class WireBytes
{
    public static byte[] Parse(string text)
    {
        var bytes = new List<byte>();
        foreach (string token in text.Split((char[])[' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries))
        {
            Append(bytes, token);
        }
        return [.. bytes];
    }

    private static void Append(List<byte> bytes, string token)
    {
        if (token == "0")
        {
            bytes.Add(0);
        }
        else if (token[0] == '\'')
        {
            bytes.AddRange(Encoding.ASCII.GetBytes(token[1..^1]));
        }
        else if (token[0] == 'z')
        {
            bytes.AddRange(new byte[int.Parse(token.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture)]);
        }
        else if (token.StartsWith("x:", StringComparison.Ordinal))
        {
            bytes.AddRange(Convert.FromHexString(token[2..]));
        }
        else
        {
            int size = token[0] - '0';
            ulong value = Number(token[2..]);
            for (int i = 0; i < size; i++)
            {
                bytes.Add((byte)(value >> (8 * i)));
            }
        }
    }

    private static ulong Number(string text) =>
        text.StartsWith("0x", StringComparison.Ordinal)
            ? ulong.Parse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)
            : unchecked((ulong)long.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture));

    /// <summary>A whole request: fuse_in_header (uid 1000, gid 1001, pid 42), then the body.</summary>
    public static byte[] Request(uint opcode, ulong unique, ulong inode, byte[] body) =>
        [.. Parse($"4:{40 + body.Length} 4:{opcode} 8:{unique} 8:{inode} 4:1000 4:1001 4:42 2:0 2:0"), .. body];
}
