namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>A format whose numbers are all at fixed places, and the structures around them.</summary>
/// <param name="Fields">Name, offset and width of every number.</param>
/// <param name="Structures">Where structures are; negative starts count from the end of the file.</param>
/// <param name="BigEndian">Byte order of the numbers.</param>
public sealed record FlatAnatomy(
    (string Name, int Offset, int Width)[] Fields, (int Start, int Count)[] Structures, bool BigEndian)
{
    public static FlatAnatomy Cloop { get; } = new(
        [
            ("script", 0, 1), ("version", 12, 1), ("block size", 128, 4), ("blocks", 132, 4), ("offset 0", 136, 8),
            ("offset 1", 144, 8), ("offset 7", 192, 8), ("offset 8", 200, 8),
        ],
        [(0, 136), (136, 26 * 8), (136 + 26 * 8, 64)], BigEndian: true);

    public static FlatAnatomy Bochs { get; } = new(
        [
            ("magic", 0, 1), ("type", 32, 1), ("subtype", 48, 1), ("version", 64, 4), ("header", 68, 4), ("catalog", 72, 4),
            ("bitmap", 76, 4), ("extent", 80, 4), ("disk (1)", 84, 8), ("disk (2)", 88, 8), ("entry 0", 512, 4),
            ("entry 1", 516, 4), ("entry 2", 520, 4),
        ],
        [(0, 96), (512, 64), (600, 600)], BigEndian: false);

    public static FlatAnatomy EncrCdsa { get; } = new(
        [
            ("magic", 0, 8), ("version", 8, 4), ("vector size", 12, 4), ("algorithm", 20, 4), ("key bits", 24, 4),
            ("vector key", 32, 4), ("chunk", 52, 4), ("size", 56, 8), ("offset", 64, 8), ("keys", 72, 4), ("key type", 96, 4),
            ("key offset", 100, 8), ("key length", 108, 8), ("kdf", 0x400, 4), ("rounds", 0x408, 4), ("salt", 0x40c, 4),
            ("iv", 0x430, 4), ("wrap bits", 0x454, 4), ("wrap", 0x458, 4), ("blob", 0x464, 4),
        ],
        [(0, 116), (0x400, 0x68 + 64), (0x1200, 64), (-16, 16)], BigEndian: true);

    public IReadOnlyList<Field> FieldsOf(byte[] image) =>
        [.. from field in Fields
            where field.Offset + field.Width <= image.Length
            select new Field(field.Name, field.Offset, field.Width, BigEndian)];

    public IReadOnlyList<(long Start, long Count)> StructuresOf(byte[] image) =>
        [.. Structures.Select(s => ((long)(s.Start < 0 ? image.Length + s.Start : s.Start), (long)s.Count))];

    public IReadOnlyList<long> BoundariesOf(byte[] image) =>
        [.. StructuresOf(image).SelectMany(s => new[] { s.Start, s.Start + s.Count }), image.Length];
}
