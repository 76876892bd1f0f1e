using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ssh;

/// <summary>The two directions of bytes to an SFTP server, and what stands behind them.</summary>
internal abstract class SftpTransport
{
    /// <summary>From the server.</summary>
    public abstract Stream Input { get; }

    /// <summary>To the server.</summary>
    public abstract Stream Output { get; }

    /// <summary>Ends it at once; reads and writes that wait end too. Later calls do nothing.</summary>
    public abstract void Abort();

    /// <summary>After the end of <see cref="Output"/>: waits up to a second for the other side to end, then aborts.</summary>
    public abstract ValueTask CloseAsync();

    /// <summary>Why it broke, as far as anybody said so; within about a second.</summary>
    /// <param name="reason">What the connection saw of it.</param>
    public abstract ValueTask<BlockException> ExplainAsync(BlockException reason);
}
