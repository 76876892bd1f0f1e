using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ImageMount.Core.Secrets;
using ImageMount.Interop;

namespace ImageMount.Cli.Output;

/// <summary>
/// Asks a person at the terminal for a passphrase, which is not shown: the echo is off before the question is there, so
/// that nothing typed early is seen either. The terminal itself edits the line.
/// </summary>
internal static class Prompt
{
    private const int MaxLength = 4096;
    private const int StandardInput = 0;

    /// <summary>What asks; null where standard input is no terminal.</summary>
    public static Func<string, Secret?>? Asker() => Console.IsInputRedirected ? null : Ask;

    private static Secret? Ask(string what)
    {
        byte[] typed = GC.AllocateUninitializedArray<byte>(MaxLength, pinned: true);
        Console.Error.Flush(); // The console sets the terminal up at its first use, and must not do so after us.
        IDisposable? echo = SysTerminal.TryTurnEchoOff(StandardInput);

        // Ctrl-C ends the program as always, but not with a terminal that shows nothing.
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(
            PosixSignal.SIGINT, _ => echo?.Dispose());
        try
        {
            Console.Error.Write($"Passphrase of {what}: ");
            int count = SysTerminal.ReadLine(StandardInput, typed);
            return count == 0 ? null : new Secret(typed.AsSpan(0, count));
        }
        finally
        {
            echo?.Dispose();
            CryptographicOperations.ZeroMemory(typed);
        }
    }
}
