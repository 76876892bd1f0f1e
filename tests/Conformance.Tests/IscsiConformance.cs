using System.Globalization;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>The protocol by itself, over tgtd: a thin disk with blocks of 512 bytes.</summary>
public class IscsiConformance : ConformanceSuite, IDisposable
{
    private readonly List<IscsiServer> _servers = [];

    public override string Driver => "iscsi";

    protected override int LengthGranularity => 512;

    protected override int Unit => 65536;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.raw");
        File.Copy(rawFile, image);
        IscsiServer server = Serve(image);
        _servers.Add(server);
        var map = new OptionMap();
        map.Set("driver", "iscsi");
        map.Set("portal", $"127.0.0.1:{server.Port.ToString(CultureInfo.InvariantCulture)}");
        map.Set("target", IscsiServer.Target);
        map.Set("lun", "1");
        return map;
    }

    protected virtual IscsiServer Serve(string image) => new IscsiServer().AddThin(image);

    public void Dispose()
    {
        _servers.ForEach(server => server.Dispose());
        GC.SuppressFinalize(this);
    }
}

/// <summary>A disk with blocks of 4 KiB.</summary>
public class IscsiLargeBlockConformance : IscsiConformance
{
    protected override int LengthGranularity => 4096;

    protected override IscsiServer Serve(string image) => new IscsiServer().Add(image, 1, "--blocksize", "4096");
}
