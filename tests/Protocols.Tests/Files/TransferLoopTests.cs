using ImageMount.Interop;
using Xunit;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>The loop under every read and write, driven by scripts of what the kernel answers.</summary>
public sealed unsafe class TransferLoopTests
{
    [Fact]
    public void Loop_interrupted_asks_again()
    {
        (long done, int errno) = Run(1000, 1, [-Errno.EINTR, -Errno.EINTR, 1000]);
        Assert.Equal((1000, 0), (done, errno));
    }

    [Fact]
    public void Loop_short_goes_on_where_it_stopped()
    {
        (long done, int errno) = Run(1000, 1, [1, 300, -Errno.EINTR, 10, 689]);
        Assert.Equal((1000, 0), (done, errno));
    }

    [Fact]
    public void Loop_at_end_of_file_tells_how_far_it_came()
    {
        (long done, int errno) = Run(1000, 1, [400, 0]);
        Assert.Equal((400, 0), (done, errno));
    }

    [Fact]
    public void Loop_failing_tells_how_far_it_came_and_why()
    {
        (long done, int errno) = Run(1000, 1, [400, -Errno.ENOSPC]);
        Assert.Equal((400, Errno.ENOSPC), (done, errno));
    }

    [Fact]
    public void Loop_aligned_short_inside_a_block_does_the_block_again()
    {
        var offsets = new List<long>();
        (long done, int errno) = Run(4096, 512, [700, 3584], offsets);
        Assert.Equal((4096, 0), (done, errno));
        Assert.Equal([0, 512], offsets);
    }

    [Fact]
    public void Loop_aligned_that_gets_less_than_a_block_is_at_the_end_of_the_file()
    {
        (long done, int errno) = Run(4096, 512, [1024, 100]);
        Assert.Equal((1124, 0), (done, errno));
    }

    private static (long Done, int Errno) Run(int count, int alignment, int[] script, List<long>? offsets = null)
    {
        byte[] buffer = new byte[count];
        fixed (byte* pointer = buffer)
        {
            var call = new Scripted(script, (nint)pointer, offsets ?? []);
            long done = TransferLoop.Run(call, 3, pointer, count, 0, alignment, out int errno);
            Assert.True(call.IsFinished, "the loop ended before the script");
            return (done, errno);
        }
    }

    /// <summary>Answers from a script; answers of more than what is asked for are spread over further calls, since a
    /// debug build asks for less than it could.</summary>
    private readonly struct Scripted(int[] script, nint start, List<long> offsets) : ITransferCall
    {
        private readonly int[] _next = new int[2]; // index, and bytes of that answer that were given

        public bool IsFinished => _next[0] == script.Length;

        public nint Transfer(int fd, byte* buffer, nuint count, long offset)
        {
            Assert.Equal(3, fd);
            Assert.Equal(offset, (nint)buffer - start); // the position in memory and in the file move together
            int answer = script[_next[0]] - _next[1];
            if (_next[1] == 0)
            {
                offsets.Add(offset); // where this answer begins, however many calls it is spread over
            }

            if (script[_next[0]] > 0 && answer > (int)count)
            {
                _next[1] += (int)count;
                return (nint)count;
            }

            _next[0]++;
            _next[1] = 0;
            return answer;
        }
    }
}
