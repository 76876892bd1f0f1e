using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Gluster;

/// <summary>What this host must have, and what the library may do to it.</summary>
internal static class GlusterHost
{
    private static readonly string[] Roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

    /// <summary>Throws where a volume cannot be reached from here, or its log must not be written.</summary>
    public static void Check(GfapiTarget target)
    {
        if (!GfapiLibrary.IsAvailable)
        {
            throw GlusterErrors.NoLibrary();
        }

        // The library would take TCP instead and say so only in its log.
        if (target.Servers.Any(server => server.Transport == "rdma") && !HasRdma())
        {
            throw new BlockException(BlockErrorKind.NotSupported, "this GlusterFS has no transport for RDMA")
            {
                Hint = "GlusterFS 8 and newer have none at all; take gluster+tcp.",
            };
        }

        CheckLog(target.LogFile);
    }

    /// <summary>
    /// The library appends to its log, and the option may come from an image: nothing but a log is appended to.
    /// </summary>
    internal static void CheckLog(string file)
    {
        if (file is "-" or "/dev/null")
        {
            return;
        }

        string? found = null;
        int errno = -Stat.TryGet(file, out StatInfo info, noFollow: true);
        if (errno == Errno.ENOENT)
        {
            found = Directory.Exists(Path.GetDirectoryName(file)) ? null : "no such folder";
        }
        else if (errno != 0)
        {
            found = Errno.Format(errno);
        }
        else if (!info.IsRegular)
        {
            found = "not a plain file";
        }
        else if (info.Size > 0)
        {
            found = BeginsLikeLog(file) ? null : "a file that is no log of GlusterFS";
        }

        if (found is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the log of libgfapi cannot be written there")
            {
                Found = $"logfile={file}: {found}",
                Expected = "a new file, or an older log",
            };
        }
    }

    private static bool BeginsLikeLog(string file)
    {
        try
        {
            using FileStream stream = File.OpenRead(file);
            return stream.ReadByte() == '[';
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // Nor could the library write it.
        }
    }

    private static bool HasRdma()
    {
        foreach (string root in Roots.Where(Directory.Exists))
        {
            foreach (string folder in Directory.EnumerateDirectories(root, "*-linux-*").Prepend(root))
            {
                string versions = Path.Combine(folder, "glusterfs");
                if (Directory.Exists(versions) && Directory.EnumerateDirectories(versions).Any(
                    version => File.Exists(Path.Combine(version, "rpc-transport", "rdma.so"))))
                {
                    return true;
                }
            }
        }

        return false;
    }
}
