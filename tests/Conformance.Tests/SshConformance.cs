using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>The protocol by itself, over a real sshd.</summary>
public sealed class SshConformance : ConformanceSuite, IDisposable
{
    private readonly List<SshServer> _servers = [];

    public override string Driver => "ssh";

    protected override bool IsResizable => true;

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.raw");
        File.Copy(rawFile, image);
        var server = new SshServer();
        _servers.Add(server);
        var map = new OptionMap();
        map.Set("driver", "ssh");
        map.Set("host", "127.0.0.1");
        map.Set("port", server.Port.ToString(System.Globalization.CultureInfo.InvariantCulture));
        map.Set("path", image);
        foreach ((string key, string value) in server.Options)
        {
            map.Set(key, value);
        }

        return map;
    }

    public void Dispose() => _servers.ForEach(server => server.Dispose());
}
