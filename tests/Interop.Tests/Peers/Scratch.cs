namespace ImageMount.Interop.Tests.Peers;

/// <summary>A temporary folder that goes away with the test; kept when IMAGEMOUNT_KEEP is set, to look at a failure.</summary>
public sealed class Scratch : IDisposable
{
    public Scratch()
    {
        Folder = Directory.CreateTempSubdirectory("imagemount-interop-").FullName;
    }

    public string Folder { get; }

    public string this[string name] => Path.Combine(Folder, name);

    public void Dispose()
    {
        if (Environment.GetEnvironmentVariable("IMAGEMOUNT_KEEP") is null)
        {
            Directory.Delete(Folder, recursive: true);
        }
    }
}
