using System.Buffers.Binary;
using System.Text;

namespace ImageMount.TestSupport.Images;

/// <summary>Makes cloop images of version 2.</summary>
public static class CloopWriter
{
    /// <summary>Compresses a content; its last block is filled with zeroes.</summary>
    public static byte[] Build(byte[] content, int blockSize)
    {
        int blocks = (content.Length + blockSize - 1) / blockSize;
        var file = new MemoryStream();
        byte[] head = new byte[136];
        Encoding.ASCII.GetBytes(
            "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n", head);
        BinaryPrimitives.WriteInt32BigEndian(head.AsSpan(128), blockSize);
        BinaryPrimitives.WriteInt32BigEndian(head.AsSpan(132), blocks);
        file.Write(head);
        long at = head.Length + 8L * (blocks + 1);
        var stored = new List<byte[]>();
        byte[] offset = new byte[8];
        for (int i = 0; i <= blocks; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(offset, at);
            file.Write(offset);
            if (i < blocks)
            {
                byte[] plain = new byte[blockSize];
                content.AsSpan(i * blockSize, Math.Min(blockSize, content.Length - i * blockSize)).CopyTo(plain);
                stored.Add(UnitEncoders.Zlib(plain));
                at += stored[^1].Length;
            }
        }

        foreach (byte[] block in stored)
        {
            file.Write(block);
        }

        return file.ToArray();
    }
}
