using System.Text;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// A path below the folder, or one name of it: the bytes of the host, one in each character, because names on Linux
/// need not be text. Empty for the folder itself.
/// </summary>
/// <param name="Raw">One character for each byte.</param>
internal readonly record struct HostPath(string Raw)
{
    /// <summary>Most bytes of one name.</summary>
    public const int MaxName = 255;

    /// <summary>The folder itself.</summary>
    public static readonly HostPath Root = new("");

    /// <summary>The last part.</summary>
    public HostPath Name => new(Raw[(Raw.LastIndexOf('/') + 1)..]);

    /// <summary>All but the last part.</summary>
    public HostPath Parent => new(Raw.LastIndexOf('/') is > 0 and var slash ? Raw[..slash] : "");

    /// <summary>The parts, from the folder down.</summary>
    public string[] Parts => Raw.Length == 0 ? [] : Raw.Split('/');

    /// <summary>True for a name that cannot lead anywhere but to an entry of its folder.</summary>
    public bool IsName =>
        Raw.Length is > 0 and <= MaxName && Raw is not ("." or "..") && !Raw.AsSpan().ContainsAny('/', '\0');

    /// <summary>From text.</summary>
    public static HostPath FromText(string text) => FromBytes(Encoding.UTF8.GetBytes(text));

    /// <summary>From bytes.</summary>
    public static HostPath FromBytes(ReadOnlySpan<byte> bytes) => new(Encoding.Latin1.GetString(bytes));

    /// <summary>An entry of this folder.</summary>
    public HostPath Join(HostPath name) => Raw.Length == 0 ? name : new HostPath(Raw + "/" + name.Raw);

    /// <summary>The bytes.</summary>
    public byte[] ToBytes() => Encoding.Latin1.GetBytes(Raw);

    /// <summary>The bytes and a NUL, for system calls.</summary>
    public byte[] ToCString() => Encoding.Latin1.GetBytes(Raw + '\0');

    /// <summary>For people; bytes that are no text become U+FFFD.</summary>
    public override string ToString() => Raw.Length == 0 ? "." : Encoding.UTF8.GetString(ToBytes());
}
