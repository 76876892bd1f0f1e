using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Storage that fails while it is used.</summary>
public sealed class FileFailureTests(ITestOutputHelper output) : FileTestBase(output)
{
    [SkippableTheory]
    [InlineData(WriteFlags.None)]
    [InlineData(WriteFlags.Fua)]
    public async Task Write_to_a_full_file_system_is_no_space_and_the_rest_stays_usable(WriteFlags flags)
    {
        string path = Path.Combine(Mount("tmpfs", "none", "size=1m"), "disk");
        using (FileStream stream = File.Create(path))
        {
            stream.SetLength(4 << 20);
        }

        BlockNode node = Open(path, Writable);
        byte[] bytes = Pattern(2 << 20);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(0, bytes, flags));
        Output.WriteLine(e.Describe());
        Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
        Assert.Equal(Interop.Errno.ENOSPC, e.Errno);
        await node.DiscardAsync(0, 4 << 20);
        await node.WriteAsync(4096, bytes.AsMemory(0, 4096), flags);
        await node.FlushAsync();
        Assert.Equal(bytes.AsSpan(0, 4096).ToArray(), await ReadAsync(node, 4096, 4096));
    }

    /// <summary>
    /// A file system on a loop device on a file on a tmpfs that is too small for it: writes go well until the page
    /// cache is written back. Then room is made; the kernel would now report success, and be wrong.
    /// </summary>
    [SkippableFact]
    public async Task Flush_that_failed_once_fails_for_ever()
    {
        Require.Tool("mkfs.ext4");
        string small = Mount("tmpfs", "none", "size=6m");
        string backing = Path.Combine(small, "backing");
        using (FileStream stream = File.Create(backing))
        {
            stream.SetLength(64 << 20);
        }

        Qemu.Succeed("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "nodiscard", backing);
        string folder = Mount("ext4", NewLoop(backing), "errors=continue");
        string path = Path.Combine(folder, "disk");
        using (FileStream stream = File.Create(path))
        {
            stream.SetLength(16 << 20);
        }

        BlockNode node = Open(path, Writable);
        await node.WriteAsync(0, Pattern(12 << 20));
        var e = await Assert.ThrowsAsync<BlockException>(() => node.FlushAsync().AsTask());
        Output.WriteLine(e.Describe());
        Assert.True(e.Kind is BlockErrorKind.IoError or BlockErrorKind.NoSpace);

        Qemu.Succeed("mount", "-o", "remount,size=100m", small);
        for (int i = 0; i < 2; i++)
        {
            e = await Assert.ThrowsAsync<BlockException>(() => node.FlushAsync().AsTask());
            Output.WriteLine(e.Describe());
            Assert.Contains("earlier flush failed", e.Describe(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Flush_from_many_threads_serves_each()
    {
        BlockNode node = Open(NewFile(Pattern(1 << 20)), Writable);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Run(async () =>
        {
            for (int j = 0; j < 10; j++)
            {
                await node.WriteAsync(i * 4096, Pattern(4096, j));
                await node.FlushAsync();
            }
        })));
        Assert.Equal(Pattern(4096, 9), await ReadAsync(node, 3 * 4096, 4096));
    }
}
