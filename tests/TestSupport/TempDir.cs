namespace ImageMount.TestSupport;

/// <summary>A folder of a test's own, removed at the end.</summary>
public sealed class TempDir : IDisposable
{
    /// <summary>Makes the folder under $TMPDIR.</summary>
    public TempDir() => Path = Directory.CreateTempSubdirectory("imgmount-test-").FullName;

    /// <summary>Makes a folder inside another test folder, which removes it too.</summary>
    public TempDir(TempDir parent, string name) => Path = Directory.CreateDirectory(parent.File(name)).FullName;

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>A path inside the folder; nothing is created.</summary>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Creates a file with this content.</summary>
    public string Write(string name, ReadOnlySpan<byte> content)
    {
        string path = File(name);
        System.IO.File.WriteAllBytes(path, content);
        return path;
    }

    /// <summary>Creates an all-hole file of this length.</summary>
    public string WriteSparse(string name, long length)
    {
        string path = File(name);
        using Microsoft.Win32.SafeHandles.SafeFileHandle handle = System.IO.File.OpenHandle(
            path, FileMode.Create, FileAccess.Write);
        RandomAccess.SetLength(handle, length);
        return path;
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Path, recursive: true);
}
