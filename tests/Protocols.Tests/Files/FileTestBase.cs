using System.Diagnostics;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Protocols.Files;
using ImageMount.TestSupport;
using Xunit;
using Xunit.Abstractions;
using DriverOptions = ImageMount.Protocols.Files.FileOptions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>A folder for one test, on a chosen file system, and the nodes, mounts and processes it leaves behind.</summary>
public abstract class FileTestBase(ITestOutputHelper output) : IAsyncLifetime
{
    private readonly List<string> _folders = [];
    private readonly List<string> _mounts = [];
    private readonly List<string> _loops = [];
    private readonly List<Process> _processes = [];

    /// <summary>Opened here, closed at the end.</summary>
    private readonly List<BlockNode> _nodes = [];

    protected ITestOutputHelper Output { get; } = output;

    /// <summary>What the driver warned of.</summary>
    protected List<string> Warnings { get; } = [];

    protected static OpenFlags ReadOnly => new();

    protected static OpenFlags Writable => new() { Writable = true };

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        foreach (BlockNode node in _nodes)
        {
            await node.CloseAsync();
        }

        foreach (Process process in _processes)
        {
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
        }

        foreach (string mount in Enumerable.Reverse(_mounts))
        {
            Run("umount", "-l", mount);
        }

        foreach (string loop in _loops)
        {
            Run("losetup", "-d", loop);
        }

        foreach (string folder in _folders)
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    protected string NewFolder(string parent = "/tmp")
    {
        string folder = Path.Combine(parent, "imgmount-file-" + Guid.NewGuid().ToString("N")[..12]);
        Directory.CreateDirectory(folder);
        _folders.Add(folder);
        return folder;
    }

    /// <summary>A file with reproducible content that is nowhere zero.</summary>
    protected string NewFile(byte[] content, string parent = "/tmp")
    {
        string path = Path.Combine(NewFolder(parent), "disk.raw");
        File.WriteAllBytes(path, content);
        return path;
    }

    protected static byte[] Pattern(int length, int seed = 1)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        for (int i = 0; i < length; i++)
        {
            bytes[i] |= 1;
        }

        return bytes;
    }

    protected BlockNode Open(string path, OpenFlags flags, LockingMode? locking = null)
    {
        FileDevice device = FileDriver.Open(
            new DriverOptions { Filename = path, Locking = locking }, flags, Warnings.Add);
        var node = new BlockNode(path, "file", device, new NodeOptions { ReadOnly = !flags.Writable });
        _nodes.Add(node);
        return node;
    }

    protected BlockException Refused(string path, OpenFlags flags, LockingMode? locking = null)
    {
        BlockException e = Assert.Throws<BlockException>(() => Open(path, flags, locking));
        Output.WriteLine(e.Describe());
        return e;
    }

    protected static async Task<byte[]> ReadAsync(BlockNode node, long offset, int count)
    {
        byte[] buffer = new byte[count];
        buffer.AsSpan().Fill(0xEE);
        await node.ReadAsync(offset, buffer);
        return buffer;
    }

    protected static bool IsDirect(BlockNode node) => ((FileDevice)node.Device).IsDirect;

    /// <summary>Mounts a file system of its own; skips where that is not allowed.</summary>
    protected string Mount(string type, string source, string options)
    {
        Require.Root();
        string folder = NewFolder();
        (int code, string text) = Run("mount", "-t", type, "-o", options, source, folder);
        Skip.If(code != 0, $"cannot mount {type}: {text}");
        _mounts.Add(folder);
        return folder;
    }

    /// <summary>A loop device over a file; skips where there is none.</summary>
    protected string NewLoop(string file)
    {
        Require.Root();
        (int code, string text) = Run("losetup", "--show", "-f", file);
        Skip.If(code != 0, $"no loop device: {text}");
        string device = text.Trim();
        _loops.Add(device);
        return device;
    }

    /// <summary>Runs a program to its end: exit code, and both outputs together.</summary>
    protected static (int Code, string Text) Run(string program, params string[] arguments)
    {
        ToolResult result = Qemu.Run(program, arguments);
        return (result.ExitCode, result.All);
    }

    /// <summary>Starts qemu-io and waits until it has the image open: it answers a question about it.</summary>
    protected async Task<Process> StartQemuIoAsync(params string[] arguments)
    {
        Require.Tool("qemu-io");
        return await StartAsync("qemu-io", arguments);
    }

    protected async Task<Process> StartAsync(string program, string[] arguments)
    {
        Process process = Launch(program, arguments);
        _processes.Add(process);
        await process.StandardInput.WriteLineAsync("length");
        await process.StandardInput.FlushAsync();
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        string? line = await process.StandardOutput.ReadLineAsync(timeout.Token);
        if (line is null)
        {
            Assert.Fail("it did not start: " + await process.StandardError.ReadToEndAsync(timeout.Token));
        }

        return process;
    }

    /// <summary>Checks file permissions as another user for the rest of this thread's work; root only.</summary>
    protected static void AsUser(uint uid, Action action)
    {
        Require.Root();
        _ = NativeSetFsUid(uid);
        try
        {
            action();
        }
        finally
        {
            _ = NativeSetFsUid(0);
        }
    }

    private static Process Launch(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    [DllImport("libc", EntryPoint = "setfsuid")]
    private static extern int NativeSetFsUid(uint uid);
}
