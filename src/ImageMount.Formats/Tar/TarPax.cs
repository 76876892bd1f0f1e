using System.Globalization;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Tar;

/// <summary>What an extended header says of the member that follows (POSIX.1-2001, "pax Extended Header").</summary>
/// <param name="Path">Its name, or null.</param>
/// <param name="Size">Bytes of its content, or null.</param>
/// <param name="IsSparse">True when its content is GNU tar's map of a sparse file and what is in it.</param>
internal readonly record struct TarPax(string? Path, long? Size, bool IsSparse)
{
    /// <summary>Reads records "LENGTH KEY=VALUE\n"; what is wrong is InvalidData without a place.</summary>
    public static TarPax Read(ReadOnlySpan<byte> bytes)
    {
        var pax = default(TarPax);
        while (!bytes.IsEmpty && bytes[0] != 0)
        {
            int space = bytes.IndexOf((byte)' ');
            if (space is < 1 or > 10
                || !int.TryParse(
                    Encoding.ASCII.GetString(bytes[..space]), NumberStyles.None, CultureInfo.InvariantCulture,
                    out int length)
                || length <= space + 1 || length > bytes.Length || bytes[length - 1] != '\n')
            {
                throw BlockException.Invalid("an extended tar header is damaged");
            }

            ReadOnlySpan<byte> record = bytes[(space + 1)..(length - 1)];
            bytes = bytes[length..];
            int equals = record.IndexOf((byte)'=');
            if (equals < 0)
            {
                throw BlockException.Invalid("an extended tar header is damaged");
            }

            pax = pax.With(record[..equals], record[(equals + 1)..]);
        }

        return pax;
    }

    private TarPax With(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        if (key.SequenceEqual("path"u8) || key.SequenceEqual("GNU.sparse.name"u8))
        {
            TarReader.CheckName(value.Length);
            string name = Encoding.UTF8.GetString(value);
            return this with { Path = name, IsSparse = IsSparse || key[0] == 'G' };
        }

        if (key.SequenceEqual("size"u8))
        {
            return long.TryParse(
                Encoding.ASCII.GetString(value), NumberStyles.None, CultureInfo.InvariantCulture, out long size)
                ? this with { Size = size }
                : throw BlockException.Invalid("the size in an extended tar header is not a number");
        }

        return key.StartsWith("GNU.sparse."u8) ? this with { IsSparse = true } : this;
    }
}
