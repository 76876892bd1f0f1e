using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// One connection to an export, or several where the server says that they see each other's writes and flushes.
/// </summary>
/// <param name="first">The first connection.</param>
/// <param name="connector">Makes more.</param>
/// <param name="most">Most connections.</param>
internal sealed class NbdSession(NbdConnection first, NbdConnector connector, int most) : ConnectionSet<NbdConnection>(
    first,
    new ConnectionGrowth<NbdConnection>(
        first.Export.Can(NbdExportFlags.CanMultiConn) ? most : 1, Busy, connector.ConnectAsync,
        another => IsSame(first.Export, another.Export), connector.NoMore))
{
    private const int Busy = 4;

    /// <summary>What the handshake found.</summary>
    public NbdExport Export => Main.Export;

    /// <summary>Sends a request and waits for its end.</summary>
    public ValueTask<NbdOutcome> RequestAsync(
        NbdCommand command, NbdCommandFlags flags, long offset, long length, Memory<byte> target,
        ReadOnlyMemory<byte> payload, CancellationToken cancellationToken) =>
        Choose().RequestAsync(NbdRequest.Rent(command, flags, offset, length, target, payload), cancellationToken);

    /// <summary>Asks for block status; the extents are in order and not empty when it went well.</summary>
    public ValueTask<(NbdOutcome Outcome, NbdStatus[] Extents)> StatusAsync(long offset, long length) =>
        Choose().StatusAsync(
            NbdRequest.Rent(NbdCommand.BlockStatus, NbdCommandFlags.None, offset, length, default, default));

    private static bool IsSame(NbdExport one, NbdExport other) =>
        one.Size == other.Size && one.Flags == other.Flags && one.Context == other.Context;
}
