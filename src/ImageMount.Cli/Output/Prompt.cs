using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Output;

/// <summary>Asks a person at the terminal for a passphrase, which is not shown.</summary>
internal static class Prompt
{
    private const int MaxLength = 4096;

    /// <summary>What asks; null where standard input is no terminal.</summary>
    public static Func<string, Secret?>? Asker() => Console.IsInputRedirected ? null : Ask;

    private static Secret? Ask(string what)
    {
        Console.Error.Write($"Passphrase of {what}: ");
        char[] typed = GC.AllocateUninitializedArray<char>(MaxLength, pinned: true);
        byte[] bytes = GC.AllocateUninitializedArray<byte>(Encoding.UTF8.GetMaxByteCount(MaxLength), pinned: true);
        int count = 0;
        try
        {
            while (true)
            {
                ConsoleKeyInfo key = Console.ReadKey(intercept: true);
                if (key.Key == ConsoleKey.Enter || key.KeyChar is '\r' or '\n')
                {
                    break;
                }

                if (key.Key == ConsoleKey.Backspace)
                {
                    count = Math.Max(0, count - 1);
                }
                else if (key.KeyChar == '\x15')
                {
                    count = 0; // Ctrl-U: the whole line
                }
                else if (!char.IsControl(key.KeyChar) && count < MaxLength)
                {
                    typed[count++] = key.KeyChar;
                }
            }

            Console.Error.WriteLine();
            return count == 0 ? null : new Secret(bytes.AsSpan(0, Encoding.UTF8.GetBytes(typed, 0, count, bytes, 0)));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(System.Runtime.InteropServices.MemoryMarshal.AsBytes(typed.AsSpan()));
            CryptographicOperations.ZeroMemory(bytes);
        }
    }
}
