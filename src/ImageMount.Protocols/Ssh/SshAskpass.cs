using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// Answers ssh's questions for a password or a passphrase. ssh runs a script for that, whose text holds no secret: it reads
/// one line from a named pipe that only this user can open, in a folder that is gone when ssh is connected. So the secret
/// is in no argument, no environment and no file.
/// </summary>
internal sealed class SshAskpass : IDisposable
{
    /// <summary>What a pipe takes without anybody reading, less the end of the line.</summary>
    private const int LongestSecret = 4095;

    private readonly DirectoryInfo _folder;
    private readonly List<SafeFileHandle> _pipes = [];

    private SshAskpass(DirectoryInfo folder) => _folder = folder;

    /// <summary>The script.</summary>
    public string Program => Path.Combine(_folder.FullName, "ask");

    /// <summary>Gets everything ready for one run of ssh.</summary>
    /// <param name="password">The user's password, or null.</param>
    /// <param name="identity">Key file, as ssh is given it, or null.</param>
    /// <param name="passphrase">Its passphrase, or null.</param>
    public static SshAskpass Make(Secret? password, string? identity, Secret? passphrase)
    {
        try
        {
            var askpass = new SshAskpass(Directory.CreateTempSubdirectory("imgmount-ssh-"));
            try
            {
                askpass.Fill(password, identity, passphrase);
                return askpass;
            }
            catch
            {
                askpass.Dispose();
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(BlockErrorKind.IoError, $"cannot hand the secret to ssh: {e.Message.TrimEnd('.')}", e)
            {
                Hint = "The folder for temporary files must be writable.",
            };
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SafeFileHandle pipe in _pipes)
        {
            pipe.Dispose(); // What was not asked for is gone with it.
        }

        _folder.Delete(recursive: true);
    }

    private void Fill(Secret? password, string? identity, Secret? passphrase)
    {
        string script = "#!/bin/sh\nf=\ncase \"$1\" in\n";
        if (passphrase is not null)
        {
            script += $"\"Enter passphrase for key \"*{Quote(identity!)}*) f=key ;;\n";
            Pour(passphrase, "key");
        }

        // The first pattern keeps the password from being given for the passphrase of some other key.
        script += "\"Enter passphrase \"*) ;;\n";
        if (password is not null)
        {
            script += "*[Pp]assword*) f=word ;;\n";
            Pour(password, "word");
        }

        script += $"esac\n[ -n \"$f\" ] && IFS= read -r line < {Quote(_folder.FullName)}/$f && printf '%s\\n' \"$line\"\n";
        File.WriteAllText(Program, script);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(Program, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }
    }

    private static string Quote(string text) => $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    /// <summary>A pipe with the secret in it. Opened for reading too, so that it keeps it until somebody reads.</summary>
    private void Pour(Secret secret, string name)
    {
        if (secret.Length is 0 or > LongestSecret || secret.Span.IndexOfAny((byte)'\n', (byte)0) >= 0)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "the secret cannot be a password of SSH: it is empty, too long or has lines");
        }

        string path = Path.Combine(_folder.FullName, name);
        int errno = -SysMkfifo.Make(path, 0x180); // 0600
        SafeFileHandle? pipe = errno == 0
            ? SysOpen.TryOpen(path, SysOpen.O_RDWR | SysOpen.O_NONBLOCK, out errno)
            : null;
        if (pipe is null)
        {
            throw HostErrors.Make(errno, "cannot make the pipe", path);
        }

        _pipes.Add(pipe);
        byte[] line = GC.AllocateUninitializedArray<byte>(secret.Length + 1, pinned: true);
        try
        {
            secret.Span.CopyTo(line);
            line[^1] = (byte)'\n';
            using var stream = new FileStream(new SafeFileHandle(pipe.DangerousGetHandle(), false), FileAccess.Write, 0);
            stream.Write(line);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(line);
        }
    }
}
