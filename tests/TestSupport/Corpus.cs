namespace ImageMount.TestSupport;

/// <summary>
/// Images that other people's programs made. They lie outside the repository: IMAGEMOUNT_CORPUS, or ../shared/corpus
/// beside it.
/// </summary>
public static class Corpus
{
    /// <summary>Unpacks an image into a folder; skips the test where it is not there.</summary>
    public static string Unpack(string name, string folder)
    {
        string packed = Path.Combine(Find(), name + ".bz2");
        Skip.IfNot(File.Exists(packed), $"the corpus has no {name}.bz2");
        string path = Path.Combine(folder, name);
        File.Copy(packed, path + ".bz2");
        Qemu.Succeed("bunzip2", path + ".bz2");
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
