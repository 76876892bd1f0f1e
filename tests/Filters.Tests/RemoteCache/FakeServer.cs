using System.Collections.Concurrent;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>Options of the driver "fake".</summary>
public sealed record FakeServerOptions
{
    /// <summary>Name of the file.</summary>
    [Option("url", "Name of the file")]
    public string Url { get; init; } = "";
}

/// <summary>A server in this process with one file, and the protocol driver "fake" that reads it.</summary>
internal sealed class FakeServer(byte[] content) : BlockDriver<FakeServerOptions>
{
    /// <summary>The file.</summary>
    public byte[] Content { get; set; } = content;

    /// <summary>Its version.</summary>
    public RemoteVersion? State { get; set; } = new("ETag \"one\"", IsStrong: true);

    /// <summary>Every read is of the version that was opened, or fails.</summary>
    public bool ChecksEveryRead { get; set; } = true;

    /// <summary>It cannot be reached.</summary>
    public bool IsAway { get; set; }

    /// <summary>It can be written.</summary>
    public bool CanWrite { get; set; }

    /// <summary>What was read of it.</summary>
    public ConcurrentQueue<(long Offset, int Count)> Reads { get; } = [];

    /// <summary>How often it was asked whether it is unchanged.</summary>
    public int Questions;

    /// <summary>Called before a read is answered.</summary>
    public Func<long, CancellationToken, Task> Before { get; set; } = (_, _) => Task.CompletedTask;

    public override string Name => "fake";

    public override DriverKind Kind => DriverKind.Protocol;

    public override string Summary => "A server of a test.";

    public override string? RemoteKey(object options) => "fake\n" + ((FakeServerOptions)options).Url;

    public override string? Locate(object options) => "fake://" + ((FakeServerOptions)options).Url;

    /// <summary>Opens the file as raw, through a cache.</summary>
    public ValueTask<Graph> OpenAsync(IRemoteLayer? layer, bool writable = false, string url = "disk")
    {
        var opener = new GraphOpener(new DriverRegistry([.. TestGraph.Registry.Drivers, this]));
        return opener.OpenAsync(
            new SourceParser(TestGraph.Registry).ParseImageOptions($"driver=raw,file.driver=fake,file.url={url}"),
            new OpenFlags { RemoteLayer = layer, Writable = writable });
    }

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FakeServerOptions options, CancellationToken cancellationToken) =>
        IsAway ? throw Away() : new(new Device(this, context.Flags.Writable));

    private static BlockException Away() => new(BlockErrorKind.IoError, "the server is away");

    private sealed class Device(FakeServer server, bool writable) : BlockDevice, IRemoteFile
    {
        private readonly byte[] _opened = server.Content;

        public override long Length => _opened.Length;

        public override BlockCapabilities Capabilities =>
            writable && server.CanWrite ? BlockCapabilities.Write : BlockCapabilities.None;

        public RemoteVersion? Version { get; } = server.State;

        public bool ChecksEveryRead => server.ChecksEveryRead;

        public ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref server.Questions);
            return server.IsAway ? throw Away() : new(server.State == Version);
        }

        public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            server.Reads.Enqueue((offset, buffer.Length));
            await server.Before(offset, cancellationToken);
            if (server.IsAway)
            {
                throw Away();
            }

            if (ChecksEveryRead && server.State != Version)
            {
                throw new BlockException(BlockErrorKind.IoError, "the file has changed");
            }

            server.Content.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
        }

        public override ValueTask WriteAsync(
            long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
        {
            buffer.Span.CopyTo(server.Content.AsSpan((int)offset));
            return default;
        }
    }
}
