namespace ImageMount.TestSupport;

/// <summary>
/// Images that other people's programs made. They lie outside the repository: IMAGEMOUNT_CORPUS, or ../shared/corpus
/// beside it. A test that needs one is skipped where there are none.
/// </summary>
public static class Corpus
{
    /// <summary>Unpacks an image into a folder and gives its path.</summary>
    public static string Unpack(string name, string folder)
    {
        string packed = Path.Combine(Find(), name + ".bz2");
        Skip.IfNot(File.Exists(packed), $"the corpus has no {name}.bz2");
        Require.Tool("bunzip2");
        string path = Path.Combine(folder, name);
        File.WriteAllBytes(path + ".bz2", File.ReadAllBytes(packed)); // Not copied: the corpus is read-only.
        Qemu.Succeed("bunzip2", "-f", path + ".bz2");
        return path;
    }

    private static string Find()
    {
        if (Environment.GetEnvironmentVariable("IMAGEMOUNT_CORPUS") is { Length: > 0 } given)
        {
            Skip.IfNot(Directory.Exists(given), $"IMAGEMOUNT_CORPUS: there is no {given}");
            return given;
        }

        string? at = AppContext.BaseDirectory;
        while (at is not null && !File.Exists(Path.Combine(at, "ImageMount.sln")))
        {
            at = Path.GetDirectoryName(at);
        }

        string corpus = Path.GetFullPath(Path.Combine(at ?? ".", "..", "shared", "corpus"));
        Skip.IfNot(Directory.Exists(corpus), $"the corpus is not there ({corpus}; set IMAGEMOUNT_CORPUS)");
        return corpus;
    }
}
