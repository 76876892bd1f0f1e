using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests.Support;

/// <summary>System calls on open files that .NET does not offer.</summary>
public static partial class Seek
{
    private const int SeekDataWhence = 3;
    private const int SeekHoleWhence = 4;
    private const int NoSuchOffset = 6;

    /// <summary>The runs of data in a file as SEEK_DATA and SEEK_HOLE tell them.</summary>
    public static List<(long Start, long End)> DataRuns(string path)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        long length = RandomAccess.GetLength(file);
        var runs = new List<(long, long)>();
        long at = 0;
        while (at < length)
        {
            long data = lseek(file, at, SeekDataWhence);
            if (data < 0)
            {
                Assert.Equal(NoSuchOffset, Marshal.GetLastPInvokeError());
                break;
            }

            long hole = lseek(file, data, SeekHoleWhence);
            Assert.True(hole > data, $"SEEK_HOLE({data}) gives {hole}, errno {Marshal.GetLastPInvokeError()}");
            runs.Add((data, hole));
            at = hole;
        }

        return runs;
    }

    /// <summary>fsync(2); the errno, or 0.</summary>
    public static int Sync(SafeFileHandle file) => fsync(file) == 0 ? 0 : Marshal.GetLastPInvokeError();

    [LibraryImport("libc", SetLastError = true)]
    private static partial long lseek(SafeFileHandle file, long offset, int whence);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsync(SafeFileHandle file);
}
