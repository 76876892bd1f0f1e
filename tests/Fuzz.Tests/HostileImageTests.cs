using ImageMount.Fuzz.Tests.Hostile;
using Xunit.Abstractions;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// Images that lie: cut off at every structure, every number at its extremes, random damage. Whatever an image says, the
/// answer is data or <see cref="Core.Block.BlockException"/>, soon, and in bounded memory.
/// </summary>
public sealed class HostileImageTests(ITestOutputHelper output)
{
    private const int RandomTruncations = 60;
    private const int RandomDamages = 500;

    /// <summary>Images of this size and more take their time; fewer cases each.</summary>
    private const int LargeImage = 4 << 20;
    private const int LargeImageShare = 4;

    public static TheoryData<string> Formats => HostileFormats.Names;

    public static TheoryData<string> FormatsWithFields => HostileFormats.NamesWithFields;

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public void Truncated_image_is_served_or_refused(string formatName)
    {
        Attack(formatName, 6001, (format, image, random) => Truncations(format, image, random));
    }

    [SkippableTheory]
    [MemberData(nameof(FormatsWithFields))]
    public void Extreme_number_is_served_or_refused(string formatName)
    {
        Attack(formatName, 6002, (format, image, _) => Extremes(format, image));
    }

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public void Random_damage_is_served_or_refused(string formatName)
    {
        Attack(formatName, 6003, (format, image, random) => Damages(format, image, random));
    }

    private static IEnumerable<(string What, byte[] Bytes)> Truncations(
        HostileFormat format, SeedImage image, Random random)
    {
        IEnumerable<long> lengths = format.Boundaries(image.Bytes).SelectMany(at => new[] { at - 1, at, at + 1 })
            .Concat(Enumerable.Range(0, RandomTruncations).Select(_ => random.NextInt64(image.Bytes.Length)))
            .Where(length => length >= 0 && length <= image.Bytes.Length).Distinct();
        foreach (long length in lengths)
        {
            yield return ($"cut to {length} bytes", image.Bytes[..(int)length]);
        }
    }

    private static IEnumerable<(string What, byte[] Bytes)> Extremes(HostileFormat format, SeedImage image)
    {
        int number = 0;
        foreach (Field field in format.Fields(image.Bytes))
        {
            foreach (ulong value in field.Extremes(image.Bytes).Where(_ => number++ % Share(image) == 0))
            {
                byte[] copy = (byte[])image.Bytes.Clone();
                field.Write(copy, value);
                if (number % 8 != 1)
                {
                    format.Seal?.Invoke(copy); // A wrong checksum only now and then: it hides the rest.
                }

                yield return ($"{field.Name} at 0x{field.Offset:x} = 0x{value:x}", copy);
            }
        }
    }

    private static int Share(SeedImage image) => image.Bytes.Length >= LargeImage ? LargeImageShare : 1;

    private static IEnumerable<(string What, byte[] Bytes)> Damages(
        HostileFormat format, SeedImage image, Random random)
    {
        for (int i = 0; i < FuzzScale.Of(RandomDamages / Share(image)); i++)
        {
            byte[] copy = (byte[])image.Bytes.Clone();
            string what = Mutation.Apply(format, copy, random);
            if (i % 2 == 0)
            {
                format.Seal?.Invoke(copy);
            }

            yield return ($"case {i}: {what}", copy);
        }
    }

    private void Attack(
        string formatName, int baseSeed,
        Func<HostileFormat, SeedImage, Random, IEnumerable<(string What, byte[] Bytes)>> cases)
    {
        HostileFormat format = HostileFormats.Get(formatName);
        int seed = FuzzScale.Seed(baseSeed);
        var runner = new HostileRunner(format);
        var counts = new int[3];
        var failures = new List<string>();
        long memory = ProcessMemory.Now();
        foreach (SeedImage image in format.Seeds())
        {
            var random = new Random(seed);
            int number = 0;
            foreach ((string what, byte[] bytes) in cases(format, image, random))
            {
                // Every case read-only or writable in turn; the same for the same seed.
                bool writable = number++ % 2 == 1 && format.IsWritable;
                string name = $"{image.Name}: {what}{(writable ? ", writable" : "")}, seed {seed}";
                try
                {
                    counts[(int)runner.Run(name, image, bytes, seed + number, writable)]++;
                }
                catch (Xunit.Sdk.XunitException e) when (failures.Count < 20)
                {
                    output.WriteLine(e.ToString());
                    failures.Add($"{e.Message}: {Where(e.InnerException)}");
                }
            }
        }

        output.WriteLine($"seed {seed}: {counts[0]} refused, {counts[1]} failed later, {counts[2]} served");
        Assert.True(failures.Count == 0, $"{failures.Count} cases:\n{string.Join("\n", failures)}");
        Assert.True(counts.Sum() > 0, "nothing was tried");
        long growth = ProcessMemory.Now() - memory;
        Assert.True(
            growth <= ProcessMemory.MaxGrowth,
            $"{formatName}: {counts.Sum()} cases left the process {growth >> 20} MiB larger: who keeps that?");
    }

    /// <summary>Type, message and the first line of ours: enough to tell findings apart.</summary>
    private static string Where(Exception? e) => e is null ? ""
        : $"{e.Message} {e.StackTrace?.Split('\n').FirstOrDefault(line => line.Contains("ImageMount.", StringComparison.Ordinal))?.Trim()}";
}
