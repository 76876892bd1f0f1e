namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Random damage: some fields to extremes, some bytes anywhere in the metadata, now and then in the payload.</summary>
public static class Mutation
{
    public static string Apply(HostileFormat format, byte[] image, Random random)
    {
        IReadOnlyList<Field> fields = format.Fields(image);
        IReadOnlyList<(long Start, long Count)> metadata = format.Metadata(image);
        var done = new List<string>();
        for (int n = random.Next(1, 5); n > 0; n--)
        {
            if (fields.Count > 0 && random.Next(2) == 0)
            {
                Field field = fields[random.Next(fields.Count)];
                ulong[] values = [.. field.Extremes(image)];
                ulong value = values[random.Next(values.Length)];
                field.Write(image, value);
                done.Add($"{field.Name}=0x{value:x}");
                continue;
            }

            (long start, long count) = random.Next(5) == 0 ? (0, image.Length) : metadata[random.Next(metadata.Count)];
            long at = start + random.NextInt64(Math.Max(1, count));
            if (at >= image.Length)
            {
                continue;
            }

            image[at] = random.Next(3) switch
            {
                0 => (byte)random.Next(256),
                1 => (byte)(image[at] ^ 1 << random.Next(8)),
                _ => (byte)(random.Next(2) * 255),
            };
            done.Add($"[0x{at:x}]=0x{image[at]:x2}");
        }

        return string.Join(' ', done);
    }
}
