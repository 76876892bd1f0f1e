using System.ComponentModel;
using System.Diagnostics;

namespace ImageMount.Fuse.Mount;

/// <summary>The setuid helper by which users who are not root mount and unmount (Debian: package fuse3).</summary>
internal static class Fusermount
{
    private const string Program = "fusermount3";

    /// <summary>Runs it to its end. Exit code and what it said on standard error.</summary>
    /// <exception cref="FuseMountException">It is not installed.</exception>
    public static (int ExitCode, string Errors) Run(
        string mountPoint, IEnumerable<string> arguments, string? commFd = null)
    {
        using Process process = Start(mountPoint, arguments, commFd);
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, errors);
    }

    /// <summary>Starts it; the caller waits and disposes.</summary>
    public static Process Start(
        string mountPoint, IEnumerable<string> arguments, string? commFd, string program = Program)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            UseShellExecute = false,
            RedirectStandardError = true,
        };
        if (commFd is not null)
        {
            start.Environment["_FUSE_COMMFD"] = commFd;
        }
        try
        {
            return Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            throw new FuseMountException(
                FuseMountFailure.NoFusermount, mountPoint,
                $"{program} cannot be started ({e.Message}); mounting as an ordinary user needs it. "
                + "Install it (Debian: apt install fuse3), or run as root.", e);
        }
    }
}
