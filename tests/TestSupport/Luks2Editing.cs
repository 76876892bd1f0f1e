using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace ImageMount.TestSupport;

/// <summary>Changes the JSON of LUKS2 headers and makes the checksums right again, for images that nobody writes.</summary>
public static class Luks2Editing
{
    private const int Binary = 4096;
    private const int ChecksumField = 448;
    private const int ChecksumSize = 64;

    /// <summary>Changes both copies in a file; the change must change something.</summary>
    public static void Change(string path, Func<string, string> change)
    {
        byte[] image = File.ReadAllBytes(path);
        int size = (int)BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(8));
        for (int copy = 0; copy < 2; copy++)
        {
            Span<byte> json = image.AsSpan(copy * size + Binary, size - Binary);
            string text = Encoding.UTF8.GetString(json[..json.IndexOf((byte)0)]);
            string changed = change(text);
            Assert.NotEqual(text, changed);
            json.Clear();
            Encoding.UTF8.GetBytes(changed, json);
        }

        Seal(image);
        File.WriteAllBytes(path, image);
    }

    /// <summary>Makes the checksums of both copies right, as far as the file has them.</summary>
    public static void Seal(Span<byte> image)
    {
        if (image.Length < Binary)
        {
            return;
        }

        ulong size = BinaryPrimitives.ReadUInt64BigEndian(image[8..]);
        for (int copy = 0; copy < 2 && size is >= Binary and <= 4 << 20; copy++)
        {
            if ((ulong)image.Length < (ulong)(copy + 1) * size)
            {
                return;
            }

            Span<byte> header = image.Slice(copy * (int)size, (int)size);
            Span<byte> field = header.Slice(ChecksumField, ChecksumSize);
            field.Clear();
            SHA256.HashData(header).CopyTo(field);
        }
    }
}
