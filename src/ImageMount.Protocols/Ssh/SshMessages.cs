using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ssh;

/// <summary>Turns what ssh prints when it ends into an error. Its words have been the same for many years.</summary>
internal static class SshMessages
{
    /// <summary>The error.</summary>
    /// <param name="lines">The last lines that ssh printed, clean.</param>
    /// <param name="peer">"host:port".</param>
    /// <param name="isByDigest">True when the host key is compared with a digest.</param>
    /// <param name="reason">What to tell when the lines say nothing.</param>
    public static BlockException Translate(
        IReadOnlyList<string> lines, string peer, bool isByDigest, BlockException reason)
    {
        bool Has(string words) => lines.Any(line => line.Contains(words, StringComparison.OrdinalIgnoreCase));
        if (Has("host identification has changed"))
        {
            return Make(BlockErrorKind.PermissionDenied, "its host key is not the one that is known",
                $"It was set up anew, or somebody is in between. If you are sure: ssh-keygen -R '{peer}'.");
        }

        if (Has("host key is known for") || Has("Host key verification failed"))
        {
            return isByDigest
                ? Make(BlockErrorKind.PermissionDenied, "its host key does not have the digest that host_key_check names",
                    "The digest must be that of the kind of key that ssh prefers (ed25519, then ecdsa, then rsa).")
                : Make(BlockErrorKind.PermissionDenied, "its host key is not known, or cannot be checked",
                    "Connect once with ssh and compare its fingerprint, or give host_key_check=sha256:HEX.");
        }

        if (Has("Permission denied (") || Has("Too many authentication failures"))
        {
            return Make(BlockErrorKind.PermissionDenied, "it does not let this user in",
                "Load the key with ssh-add, or give 'user', 'identity' or 'password-secret'.");
        }

        if (Has("Could not resolve hostname"))
        {
            return Make(BlockErrorKind.NotFound, "there is no such host", "Check the spelling, and the name server.");
        }

        if (Has("Connection refused"))
        {
            return Make(BlockErrorKind.IoError, "nobody listens there", "Check the port, and that the server runs.");
        }

        if (Has("timed out") || Has("not responding"))
        {
            return Make(BlockErrorKind.TimedOut, "it does not answer", null);
        }

        if (Has("No route to host") || Has("Network is unreachable"))
        {
            return Make(BlockErrorKind.IoError, "there is no way to it through the network", null);
        }

        if (Has("subsystem request failed"))
        {
            return Make(BlockErrorKind.NotSupported, "it offers no SFTP", null);
        }

        if (Has("configuration option: knownhostscommand"))
        {
            return Make(BlockErrorKind.NotSupported, "a host key is compared with a digest by OpenSSH 8.5 or newer only",
                "Use host_key_check=yes and known_hosts.");
        }

        return lines.Count == 0
            ? reason
            : new BlockException(BlockErrorKind.IoError, $"{peer}: ssh says '{lines[^1]}'") { Hint = reason.Hint };

        BlockException Make(BlockErrorKind kind, string why, string? hint) =>
            new(kind, $"cannot connect to {peer}: {why}", InnerOf(kind)) { Found = $"'{lines[^1]}'", Hint = hint };

        // What the name server says is a failure of the network, as with other protocols.
        static Exception? InnerOf(BlockErrorKind kind) => kind == BlockErrorKind.NotFound
            ? new System.Net.Sockets.SocketException((int)System.Net.Sockets.SocketError.HostNotFound) : null;
    }
}
