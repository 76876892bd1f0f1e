using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// Long runs of random edits, by mtools and in the middle of files, with applying in between; afterwards the folder
/// is what a model says, and what mtools takes out of the disk.
/// </summary>
public sealed class ApplyModelTests(ITestOutputHelper output)
{
    private static readonly string[] Names =
        ["a", "B.TXT", "a longer name.txt", "Ärger", "c.d.e", "x1", "x2", "readme.md"];

    [SkippableTheory]
    [InlineData(1, 1440)]
    [InlineData(2, 1440)]
    [InlineData(3, 10_000, "-F", "16", "-s", "4")]
    [InlineData(4, 36_000, "-F", "32", "-s", "1")]
    public void Random_edits(int seed, int kibibytes, params string[] options)
    {
        seed = Seeds.Shift(seed);
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        using var folder = new WrittenFolder(directory => Fill(directory, random), kibibytes, options);
        var model = new Model(folder.Folder);
        for (int round = 0; round < (kibibytes > 20_000 ? 3 : 7); round++)
        {
            folder.Edit(image =>
            {
                for (int i = 0; i < 6; i++)
                {
                    EditOnce(folder, image, model, random);
                }

                Assert.True(Mtools.IsClean(image, out string fsck) || fsck.Contains("Free cluster summary"), fsck);
            });
            if (round % 3 == 1)
            {
                Overwrite(folder, model, random);
            }

            if (random.Next(3) > 0)
            {
                Assert.Empty(folder.Apply().Notes);
                Assert.Equal(model.Describe(), folder.Describe());
            }
        }

        folder.Apply();
        Assert.Equal(model.Describe(), folder.Describe());
        string target = Directory.CreateDirectory(Path.Join(folder.Folder, "..", "out")).FullName;
        File.WriteAllBytes(folder.Image, folder.ReadDisk());
        if (model.Count > 0)
        {
            Mtools.On(folder.Image, "mcopy", "-s", "-n", "::*", target);
        }

        Assert.Equal(WrittenFolder.Describe(target), folder.Describe());
    }

    private static void Fill(string directory, Random random)
    {
        foreach (string name in Names.Take(5))
        {
            Directory.CreateDirectory(Path.Join(directory, "d-" + name));
            File.WriteAllBytes(Path.Join(directory, name), ApplyTests.TestBytes(random.Next(5000), random.Next()));
            File.WriteAllBytes(
                Path.Join(directory, "d-" + name, name), ApplyTests.TestBytes(random.Next(5000), random.Next()));
        }
    }

    private static void EditOnce(WrittenFolder folder, string image, Model model, Random random)
    {
        string folderName = model.Pick(random, wantsFolder: true) ?? "";
        string target = (folderName.Length == 0 ? "" : folderName + "/") + Names[random.Next(Names.Length)];
        string? file = model.Pick(random, wantsFolder: false);
        switch (random.Next(9))
        {
            case 0 or 1 when !model.IsFolder(target):
                byte[] bytes = ApplyTests.TestBytes(random.Next(4) == 0 ? 0 : random.Next(20_000), random.Next());
                string source = Path.Join(folder.Folder, "..", "source");
                File.WriteAllBytes(source, bytes);
                Mtools.On(image, "mcopy", "-o", source, $"::{target}");
                model.Set(target, bytes);
                break;
            case 2 when !model.Has(target):
                Mtools.On(image, "mmd", $"::{target}");
                model.Set(target, null);
                break;
            case 3 when file is not null:
                Mtools.On(image, "mdel", $"::{file}");
                model.Remove(file);
                break;
            case 4 when folderName.Length > 0 && random.Next(2) == 0:
                Mtools.On(image, "mdeltree", $"::{folderName}");
                model.Remove(folderName);
                break;
            case 5 when file is not null && !model.Has(Model.Sibling(file, "renamed")):
                string other = Model.Sibling(file, "renamed");
                Mtools.On(image, "mren", $"::{file}", $"::{other}");
                model.Rename(file, other);
                break;
            case 6 when file is not null && !model.Has(Model.In(folderName, file)):
                Mtools.On(image, "mmove", $"::{file}", $"::{folderName}");
                model.Rename(file, Model.In(folderName, file));
                break;
            case 7 when folderName.Length > 0 && model.Pick(random, wantsFolder: true) is { } into
                && into != folderName && !into.StartsWith(folderName + "/", StringComparison.Ordinal)
                && !model.Has(Model.In(into, folderName)):
                Mtools.On(image, "mmove", $"::{folderName}", $"::{into}");
                model.Rename(folderName, Model.In(into, folderName));
                break;
            case 8 when folderName.Length > 0 && !model.Has(Model.Sibling(folderName, "moved")):
                string moved = Model.Sibling(folderName, "moved");
                Mtools.On(image, "mren", $"::{folderName}", $"::{moved}");
                model.Rename(folderName, moved);
                break;
        }
    }

    /// <summary>Changes bytes in the middle of a file, as a database does, without a change of its entry.</summary>
    private static void Overwrite(WrittenFolder folder, Model model, Random random)
    {
        byte[] before = folder.ReadDisk();
        var tree = new MemoryDisk(before).ReadVolume().Tree!;
        byte[] after = (byte[])before.Clone();
        for (int i = 1; i < tree.Nodes.Count; i++)
        {
            var node = tree.Nodes[i];
            if (node.IsDirectory || node.Size < 10 || random.Next(3) != 0)
            {
                continue;
            }

            byte[] content = (byte[])model.Get(tree.PathOf(i)).Clone();
            int run = random.Next(node.Runs.Length);
            int start = (int)node.Runs.Take(run).Sum(r => r.Count) * tree.Geometry.ClusterSize;
            int length = (int)node.Runs[run].Count * tree.Geometry.ClusterSize;
            int at = random.Next(Math.Min(length, content.Length - start));
            byte value = (byte)random.Next(256);
            content[start + at] = value;
            after[tree.Geometry.OffsetOf(node.Runs[run].First) + at] = value;
            model.Set(tree.PathOf(i), content);
        }

        folder.Write(before, after);
    }

    /// <summary>What the folder should hold: contents by path, null for folders.</summary>
    private sealed class Model
    {
        private readonly SortedDictionary<string, byte[]?> _entries = new(StringComparer.Ordinal);

        public Model(string folder)
        {
            foreach (string path in Directory.GetFileSystemEntries(folder, "*", SearchOption.AllDirectories))
            {
                _entries[Path.GetRelativePath(folder, path)] = Directory.Exists(path) ? null : File.ReadAllBytes(path);
            }
        }

        public int Count => _entries.Count;

        public static string Sibling(string path, string suffix) => path + "-" + suffix[0];

        public static string In(string folder, string path) =>
            (folder.Length == 0 ? "" : folder + "/") + Path.GetFileName(path);

        // FAT does not tell capitals from small letters.
        public bool Has(string path) =>
            _entries.Keys.Any(known => string.Equals(known, path, StringComparison.OrdinalIgnoreCase));

        public bool IsFolder(string path) => _entries.TryGetValue(path, out byte[]? content) && content is null;

        public byte[] Get(string path) => _entries[path]!;

        public void Set(string path, byte[]? content) => _entries[path] = content;

        public void Remove(string path)
        {
            foreach (string known in Below(path))
            {
                _entries.Remove(known);
            }
        }

        public void Rename(string from, string to)
        {
            foreach (string known in Below(from))
            {
                _entries.Remove(known, out byte[]? content);
                _entries[to + known[from.Length..]] = content;
            }
        }

        public string? Pick(Random random, bool wantsFolder)
        {
            string[] fitting =
                [.. _entries.Where(entry => entry.Value is null == wantsFolder).Select(entry => entry.Key)];
            return fitting.Length == 0 ? null : fitting[random.Next(fitting.Length)];
        }

        public string Describe() => string.Join('\n', _entries
            .Select(entry => entry.Value is { } content
                ? $"{entry.Key}: {WrittenFolder.Hash(content)}"
                : entry.Key + "/")
            .Order(StringComparer.Ordinal));

        private List<string> Below(string path) =>
        [
            .. _entries.Keys.Where(known => known == path || known.StartsWith(path + "/", StringComparison.Ordinal)),
        ];
    }
}
