using System.Text;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Valid images of the formats that no peer makes.</summary>
public static class AppleSeeds
{
    private const int Seed = 5005;

    /// <summary>The passphrase of the encrypted ones.</summary>
    public static SecretStore Secrets { get; } = new() { Default = new Secret(Encoding.UTF8.GetBytes("correct horse")) };

    public static List<SeedImage> Dmg()
    {
        byte[] content = Content(150);
        List<byte[]> segments = new DmgWriter { Seed = Seed, Segments = 3 }.BuildSegments(content);
        return
        [
            new SeedImage("dmg plist", new DmgWriter { Seed = Seed }.Build(content)),
            new SeedImage("dmg fork", new DmgWriter { Seed = Seed, HasResourceFork = true, Partitions = 2 }.Build(content)),
            new SeedImage("dmg plain", new DmgWriter
            {
                Seed = Seed,
                Units = DmgWriter.PlainUnits,
                HasResourceFork = true,
                Junk = 0,
            }.Build(content)),
            new SeedImage("disk.dmg", segments[0])
            {
                Companions = new Dictionary<string, byte[]>
                {
                    ["disk.002.dmgpart"] = segments[1],
                    ["disk.003.dmgpart"] = segments[2],
                },
            },
        ];
    }

    public static List<SeedImage> EncrCdsa() =>
    [
        new SeedImage("encrcdsa 128", new EncrCdsaWriter { HasWholeChunks = false }.Build(Content(20)[..9001])),
        new SeedImage("encrcdsa 256", new EncrCdsaWriter { KeyBits = 256, ChunkSize = 4096 }.Build(Content(20))),
    ];

    public static List<SeedImage> Cloop() => [new SeedImage("cloop", CloopWriter.Build(Content(200), 4096))];

    public static List<SeedImage> Bochs() =>
    [
        new SeedImage("bochs 2", new BochsWriter().Build(Content(333))),
        new SeedImage("bochs 1", new BochsWriter { Version = 1, ExtentSize = 4096 }.Build(Content(333))),
    ];

    private static byte[] Content(int sectors)
    {
        byte[] content = TestPattern.Make(sectors * 512, 0, Seed);
        var random = new Random(Seed);
        for (int at = 0; at < content.Length;)
        {
            int count = Math.Min(content.Length - at, random.Next(1, 40) * 512);
            content.AsSpan(at, random.Next(3) == 0 ? count : 0).Clear();
            at += count;
        }

        return content;
    }
}
