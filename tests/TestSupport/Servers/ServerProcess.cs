using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A real server that a test starts on a free port of the loopback and ends: a program that stays in the foreground. Skips
/// the test where the program is missing.
/// </summary>
public sealed class ServerProcess : IDisposable
{
    private const int SigKill = 9;
    private const int SigStop = 19;
    private const int SigCont = 18;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private readonly string _tool;
    private readonly string[] _arguments;
    private readonly int[] _ports;
    private Process? _process;

    /// <summary>Starts a program and waits until it listens on all of its ports.</summary>
    public ServerProcess(string tool, string[] arguments, params int[] ports)
    {
        Require.Tool(tool);
        _tool = Require.FindTool(tool)!;
        _arguments = arguments;
        _ports = ports;
        Start();
    }

    /// <summary>A port that was free a moment ago.</summary>
    public static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    /// <summary>Ports in a row that were free a moment ago.</summary>
    public static int[] FreePorts(int count)
    {
        // Below those that the kernel hands out by itself; from a place of chance, because tests run at once.
        for (int tries = 0; tries < 100; tries++)
        {
            int first = Random.Shared.Next(11_000, 30_000);
            int[] ports = [.. Enumerable.Range(first, count)];
            if (ports.All(IsFree))
            {
                return ports;
            }
        }

        throw new InvalidOperationException($"there are no {count} free ports in a row");
    }

    private static bool IsFree(int port)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Bind(new IPEndPoint(IPAddress.Any, port));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Starts it (again).</summary>
    public void Start()
    {
        var start = new ProcessStartInfo(_tool)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in _arguments)
        {
            start.ArgumentList.Add(argument);
        }

        _process = Process.Start(start)!;
        var said = new System.Text.StringBuilder();
        _process.OutputDataReceived += (_, line) => said.AppendLine(line.Data);
        _process.ErrorDataReceived += (_, line) => said.AppendLine(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        var clock = Stopwatch.StartNew();
        while (!_ports.All(IsListening))
        {
            if (_process.WaitForExit(20) || clock.Elapsed > s_patience)
            {
                Dispose();
                Assert.Fail($"{_tool} does not listen on {string.Join(", ", _ports)}: {said}");
            }
        }
    }

    /// <summary>Ends it and its workers without a word.</summary>
    public void Kill()
    {
        if (_process is { HasExited: false } process)
        {
            int[] children = Children(process.Id);
            process.Kill();
            Array.ForEach(children, child => Signal(child, SigKill));
            process.WaitForExit();
        }
    }

    /// <summary>Stops it, and its workers, in their tracks.</summary>
    public void Stop() => SignalAll(SigStop);

    /// <summary>Lets it go on.</summary>
    public void Continue() => SignalAll(SigCont);

    /// <inheritdoc/>
    public void Dispose()
    {
        Kill();
        _process?.Dispose();
        _process = null;
    }

    private static bool IsListening(int port)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(IPAddress.Loopback, port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private static int[] Children(int pid)
    {
        string list = $"/proc/{pid}/task/{pid}/children";
        return File.Exists(list)
            ? [.. File.ReadAllText(list).Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse)] : [];
    }

    private void SignalAll(int signal)
    {
        int pid = _process!.Id;
        foreach (int one in (int[])[pid, .. Children(pid)])
        {
            Signal(one, signal);
        }
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int pid, int signal);
}
