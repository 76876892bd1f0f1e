using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>The protocol by itself, over a real glusterd.</summary>
public sealed class GlusterConformance : ConformanceSuite, IClassFixture<GlusterConformance.Server>
{
    private static int s_files;
    private readonly GlusterServer? _server;

    public GlusterConformance(Server server) => _server = server.Instance;

    public override string Driver => "gluster";

    protected override bool IsResizable => true;

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        Skip.If(_server is null, "glusterd is not installed, or the user is not root");
        string name = $"disk{Interlocked.Increment(ref s_files)}.raw";
        File.Copy(rawFile, _server.BrickFile(name));
        OptionMap map = TestGraph.Parser.ParseProtocol(_server.Uri(name));
        map.Set("driver", "gluster");
        return map;
    }

    /// <summary>One for all tests of the class; it takes seconds to start.</summary>
    public sealed class Server : IDisposable
    {
        public GlusterServer? Instance { get; } = Make();

        public void Dispose() => Instance?.Dispose();

        private static GlusterServer? Make()
        {
            try
            {
                return new GlusterServer();
            }
            catch (SkipException)
            {
                return null; // Each test skips then; a fixture cannot.
            }
        }
    }
}
