using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>The protocol by itself, over qemu-nbd: structured replies, holes, zeroing, several connections.</summary>
public class NbdConformance : ConformanceSuite, IDisposable
{
    private readonly List<NbdServer> _servers = [];

    /// <summary>For sockets, apart from the images, whose folder is read as a whole.</summary>
    private readonly TempDir _sockets = new();

    public override string Driver => "nbd";

    protected override int LengthGranularity => 512;

    protected override int Unit => 65536;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.raw");
        File.Copy(rawFile, image);
        NbdServer server = Serve(_sockets, image);
        _servers.Add(server);
        var map = new OptionMap();
        map.Set("driver", "nbd");
        map.Set("path", server.Socket);
        return map;
    }

    protected virtual NbdServer Serve(TempDir sockets, string image) =>
        NbdServer.Qemu(sockets, image, "-f", "raw", "--discard=unmap");

    public void Dispose()
    {
        foreach (NbdServer server in _servers)
        {
            server.Dispose();
        }

        _sockets.Dispose();

        GC.SuppressFinalize(this);
    }
}

/// <summary>Over nbdkit with simple replies only.</summary>
public class NbdSimpleConformance : NbdConformance
{
    protected override NbdServer Serve(TempDir sockets, string image) => NbdServer.Kit(sockets, "--no-sr", "file", image);
}
