using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>tcgetattr(3), tcsetattr(3): the echo of a terminal.</summary>
public static unsafe partial class SysTerminal
{
    // struct termios of Linux: four flag words, the third after c_iflag, c_oflag, c_cflag being c_lflag; 60 bytes.
    private const int Size = 60;
    private const int LocalFlags = 3;
    private const uint ECHO = 8;
    private const uint ECHONL = 0x40;
    private const uint ICANON = 2;
    private const int TCSANOW = 0;

    /// <summary>
    /// Stops a terminal from showing what is typed; lines are still edited by the terminal, and their ends are shown.
    /// Null when the descriptor is no terminal. Disposing sets everything as it was.
    /// </summary>
    public static IDisposable? TryTurnEchoOff(int fd)
    {
        var before = new byte[256]; // more than any libc asks for
        fixed (byte* start = before)
        {
            // SAFETY: larger than struct termios, pinned during the call.
            if (TcGetAttr(fd, start) != 0)
            {
                return null;
            }
        }
        byte[] quiet = [.. before];
        Span<uint> words = MemoryMarshal.Cast<byte, uint>(quiet.AsSpan(0, Size));
        words[LocalFlags] = (words[LocalFlags] & ~ECHO) | ECHONL | ICANON;
        Set(fd, quiet);
        return new Restorer(fd, before);
    }

    /// <summary>
    /// Reads one line as the terminal edits it, without its end, past the console of the run time (which shows what it
    /// reads). Answers the number of bytes; what does not fit is dropped.
    /// </summary>
    public static int ReadLine(int fd, Span<byte> line)
    {
        int count = 0;
        byte next;
        // SAFETY: one byte, on our stack.
        while (SysRead.Read(fd, &next, 1) == 1 && next is not ((byte)'\n' or (byte)'\r'))
        {
            if (count < line.Length)
            {
                line[count++] = next;
            }
        }
        return count;
    }

    private static void Set(int fd, byte[] attributes)
    {
        fixed (byte* start = attributes)
        {
            // SAFETY: as above; only read.
            _ = TcSetAttr(fd, TCSANOW, start);
        }
    }

    [LibraryImport("libc", EntryPoint = "tcgetattr")]
    private static partial int TcGetAttr(int fd, byte* attributes);

    [LibraryImport("libc", EntryPoint = "tcsetattr")]
    private static partial int TcSetAttr(int fd, int when, byte* attributes);

    private sealed class Restorer(int fd, byte[] before) : IDisposable
    {
        public void Dispose() => Set(fd, before);
    }
}
