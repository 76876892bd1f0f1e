using System.Runtime.InteropServices;
using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Fuse.Mount;
using ImageMount.Interop;
using ImageMount.Mounting.Fuse;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Cli.Background;

/// <summary>
/// SIGTERM, SIGINT and SIGHUP unmount. A signal must end the process in bounded time and with a good image, whoever
/// uses
/// the mount: what they have written so far is called in from the kernel, then they are cut off. A second signal does
/// not wait for that.
/// </summary>
internal sealed class StopSignals : IDisposable
{
    // An umount(8) that came first needs a moment to reach us; a lazy one may take forever.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(2);

    /// <summary>How long a server may make no progress while the mount is being ended.</summary>
    public static readonly TimeSpan PatienceWithPeers = TimeSpan.FromSeconds(3);

    private readonly FuseMount _mount;
    private readonly Graph _graph;
    private readonly MountLog _log;
    private readonly PosixSignalRegistration[] _registrations;
    private readonly TaskCompletionSource _mustEnd = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _count;

    public StopSignals(FuseMount mount, Graph graph, MountLog log)
    {
        _mount = mount;
        _graph = graph;
        _log = log;
        PosixSignal[] signals = [PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP];
        _registrations = [.. signals.Select(s => PosixSignalRegistration.Create(s, Handle))];
    }

    /// <summary>
    /// Completes when the mount cannot be ended in an orderly way, and the process is to end all the same.
    /// </summary>
    public Task MustEnd => _mustEnd.Task;

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        _graph.StopWaiting(PatienceWithPeers);
        switch (Interlocked.Increment(ref _count))
        {
            case 1:
                _ = Task.Run(StopAsync);
                break;
            case 2:
                _ = Task.Run(CutOff);
                break;
        }
    }

    private async Task StopAsync()
    {
        string path = _mount.Session.MountPoint;
        try
        {
            FuseUnmount.Unmount(path);
        }
        catch (FuseMountException e) when (e.Failure == FuseMountFailure.NotMounted)
        {
            Task ended = _mount.WaitAsync();
            if (await Task.WhenAny(ended, Task.Delay(Grace)).ConfigureAwait(false) != ended)
            {
                _mustEnd.TrySetResult();
            }
        }
        catch (FuseMountException e)
        {
            string holders = string.Join("; ", MountHolders.Find(path).Select(Holders.Describe));
            _log.Warning($"{e.Message} It is cut off, because a signal asks for the end. {holders}".Trim());
            WriteBack(path);
            CutOff();
        }
    }

    private void CutOff()
    {
        FuseUnmount.TryCutOff(_mount.Session.MountPoint);
        if (SysUser.EffectiveId != 0 && !_mount.Session.Abort())
        {
            _mustEnd.TrySetResult();
        }
    }

    private static void WriteBack(string path)
    {
        using SafeFileHandle? root = SysOpen.TryOpen(path, SysOpen.O_RDONLY, out _);
        if (root is not null)
        {
            SysSyncfs.Syncfs(root);
        }
    }
}
