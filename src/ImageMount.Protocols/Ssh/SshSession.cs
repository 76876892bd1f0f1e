using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// One file, open on one connection or several. The first carries all changes; the others help with reading, where a single
/// one is bounded by its window and by one processor.
/// </summary>
/// <param name="first">The file.</param>
/// <param name="connector">Makes more.</param>
/// <param name="most">Most connections.</param>
/// <param name="writable">True when the file may be changed.</param>
internal sealed class SshSession(SftpFile first, SshConnector connector, int most, bool writable) : ConnectionSet<SftpFile>(
    first,
    new ConnectionGrowth<SftpFile>(
        most, Busy, token => connector.OpenAsync(writable: false, token),
        another => another.Connection.MaxRead == first.Connection.MaxRead
            && (writable || another.Attributes == first.Attributes),
        connector.NoMore))
{
    private const int Busy = 8;
}
