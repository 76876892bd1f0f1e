using System.Reflection;

namespace ImageMount.Tidy.Tests;

/// <summary>A file of the repository.</summary>
/// <param name="Name">Path from the top, with '/'.</param>
/// <param name="Text">Content.</param>
public sealed record SourceFile(string Name, string Text)
{
    public string[] Lines => Text.Split('\n');
}

/// <summary>The files of the checkout that people write.</summary>
public static class Repository
{
    private static readonly string[] Skipped = ["bin", "obj", ".git", ".build", "out", "TestResults", "__pycache__"];

    public static string Top { get; } = typeof(Repository).Assembly
        .GetCustomAttributes<AssemblyMetadataAttribute>().Single(item => item.Key == "RepositoryPath").Value!;

    /// <summary>Files below a folder whose names end so, in order of name.</summary>
    public static IReadOnlyList<SourceFile> Files(string folder, params string[] endings)
    {
        var found = new List<SourceFile>();
        var pending = new Stack<string>([Path.Combine(Top, folder)]);
        while (pending.TryPop(out string? current))
        {
            if (!Directory.Exists(current))
            {
                continue;
            }

            foreach (string child in Directory.GetDirectories(current))
            {
                if (!Skipped.Contains(Path.GetFileName(child)))
                {
                    pending.Push(child);
                }
            }

            found.AddRange(Directory.GetFiles(current)
                .Where(path => endings.Any(ending => path.EndsWith(ending, StringComparison.Ordinal)))
                .Select(path => new SourceFile(Path.GetRelativePath(Top, path), File.ReadAllText(path))));
        }

        Assert.NotEmpty(found);
        return [.. found.OrderBy(file => file.Name, StringComparer.Ordinal)];
    }

    /// <summary>One file, or an empty text when there is none.</summary>
    public static string TextOf(string name)
    {
        string path = Path.Combine(Top, name);
        return File.Exists(path) ? File.ReadAllText(path) : "";
    }

    /// <summary>Fails with every complaint, one a line.</summary>
    public static void AssertNone(IEnumerable<string> complaints)
    {
        string[] all = [.. complaints];
        Assert.True(all.Length == 0, $"{all.Length}:\n{string.Join('\n', all)}");
    }
}
