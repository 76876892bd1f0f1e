using System.Text;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>
/// Makes folders that are hard to show: names from all of Unicode, in 8.3 and nearly, with the same beginnings, in lower
/// case and capitals; sizes around those of clusters; depths.
/// </summary>
/// <param name="random">The seed is the caller's to tell.</param>
internal sealed class TreeMaker(Random random)
{
    private static readonly string[] Stems =
        ["readme", "README", "Long name", "document", "DOCUME~1", "a", "x.y.z", ".config", "naïve", "日本語", "con"];

    private static readonly string[] Extensions = ["", ".txt", ".TXT", ".Txt", ".c", ".jpeg", ".tar.gz", ".~1", ". x"];

    /// <summary>What is in the folder: path to content, null for folders.</summary>
    public Dictionary<string, byte[]?> Make(string root, int files, int clusterSize)
    {
        var made = new Dictionary<string, byte[]?>(StringComparer.Ordinal);
        var taken = new HashSet<string>(StringComparer.Ordinal);
        List<string> folders = [""];
        for (int i = 0; i < files; i++)
        {
            string path = folders[random.Next(folders.Count)] + Name();
            if (!taken.Add(path.ToUpperInvariant()) || Encoding.UTF8.GetByteCount(Path.GetFileName(path)) > 255
                || path.Length > 1500)
            {
                continue;
            }

            string full = Path.Join(root, path);
            if (random.Next(6) == 0)
            {
                Directory.CreateDirectory(full);
                made[path] = null;
                folders.Add(path + "/");
                continue;
            }

            byte[] content = new byte[Size(clusterSize)];
            random.NextBytes(content);
            File.WriteAllBytes(full, content);
            File.SetLastWriteTimeUtc(full, DateTime.UnixEpoch.AddSeconds(random.NextInt64(400_000_000, 4_000_000_000)));
            made[path] = content;
        }

        return made;
    }

    private int Size(int clusterSize) => random.Next(8) switch
    {
        0 => 0,
        1 => 1,
        2 => clusterSize,
        3 => clusterSize - 1,
        4 => clusterSize + 1,
        5 => clusterSize * random.Next(1, 5),
        _ => random.Next(1, clusterSize * 3),
    };

    private string Name()
    {
        while (true)
        {
            string name = random.Next(5) switch
            {
                0 => Stems[random.Next(Stems.Length)] + Extensions[random.Next(Extensions.Length)],
                1 => $"same beginning {random.Next(1000)}{Extensions[random.Next(Extensions.Length)]}",
                2 => Anything(random.Next(1, 12)),
                3 => Anything(random.Next(1, 80)),
                _ => $"f{random.Next(100_000)}{Extensions[random.Next(Extensions.Length)]}",
            };
            if (NameIsGood(name))
            {
                return name;
            }
        }
    }

    /// <summary>By the specification, said once more here.</summary>
    private static bool NameIsGood(string name) =>
        name.All(c => c >= ' ' && !"\"*/:<>?\\|\uffff".Contains(c)) && name[^1] is not ('.' or ' ');

    private string Anything(int length)
    {
        var text = new StringBuilder();
        for (int i = 0; i < length; i++)
        {
            int plane = random.Next(4);
            int rune = plane switch
            {
                0 => random.Next(0x20, 0x7f),
                1 => random.Next(0x80, 0x800),
                2 => random.Next(0x800, 0x10000),
                _ => random.Next(0x10000, 0x110000),
            };
            text.Append(Rune.IsValid(rune) ? new Rune(rune) : new Rune('_'));
        }

        return text.ToString();
    }
}
