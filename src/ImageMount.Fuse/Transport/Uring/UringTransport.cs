using System.Globalization;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport.Uring;

/// <summary>
/// FUSE over io_uring (Linux 6.14, where /sys/module/fuse/parameters/enable_uring is Y): a queue a processor, each with a
/// thread of its own. INIT, FORGET, INTERRUPT and notifications still travel through /dev/fuse, which one worker reads.
/// </summary>
/// <remarks>
/// The kernel puts a request into the queue of the processor where it was made, and uses no queue before every possible
/// processor has one; those without a thread (offline, or beyond the 64th) have entries with the threads of others. When
/// it refuses an entry, all requests stay with /dev/fuse and the workers go on as if there were no rings.
/// </remarks>
internal sealed class UringTransport : IFuseTransport
{
    private const int MostThreads = 64;
    private const int MostEntries = 16;
    /// <summary>Where the kernel says whether it offers io_uring: <c>Y</c> or <c>N</c>.</summary>
    public const string Parameter = "/sys/module/fuse/parameters/enable_uring";

    private readonly ThreadTransport _device;
    private readonly UringQueue[] _queues;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly FuseRequest[] _places;

    private UringTransport(SafeFileHandle device, FuseSessionOptions options, int payload)
    {
        _device = new ThreadTransport(device, options, payload);
        // Whoever makes a request may run where this process may not, so all processors that run count for the queues.
        int online = Processors("online");
        int[][] numbers = Spread(Environment.ProcessorCount, online, Processors("possible"), Depth(options, payload, online));
        _queues = new UringQueue[numbers.Length];
        for (int i = 0; i < numbers.Length; i++)
        {
            _queues[i] = new UringQueue(this, (int)device.DangerousGetHandle(), i, numbers[i], payload);
        }

        _places = [.. _queues.SelectMany(queue => queue.Places).Select(place => place.Request)];
        Helpers = new UringHelpers(
            Math.Max(8, 2 * Environment.ProcessorCount), Help, Ended);
        _device.Completion.ContinueWith(
            task => Follow(task), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    public Task Completion => _completion.Task;

    /// <summary>Those of the rings, then those that came through /dev/fuse.</summary>
    public IReadOnlyList<FuseRequest> Requests => [.. _places, .. _device.Requests];

    /// <summary>Requests travel through the rings.</summary>
    public bool IsActive { get; private set; }

    public FuseServer Server => _device.Server;

    /// <summary>Who does what takes its time.</summary>
    public UringHelpers Helpers { get; }

    /// <summary>True when the kernel offers it: nobody needs to try.</summary>
    public static bool IsOffered()
    {
        try
        {
            return File.ReadAllText(Parameter).StartsWith('Y');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>A transport whose rings exist, or null and the errno with which the kernel refused one.</summary>
    public static UringTransport? TryCreate(
        SafeFileHandle device, FuseSessionOptions options, int payload, out int errno)
    {
        var transport = new UringTransport(device, options, payload);
        errno = 0;
        foreach (UringQueue queue in transport._queues)
        {
            errno = queue.Start();
            if (errno != 0)
            {
                transport.DisposeRings();
                return null;
            }
        }

        return transport;
    }

    public void Start(FuseServer server) => _device.Start(server);

    public void Ready()
    {
        bool isAgreed = (Server.Info!.Flags & FuseConstants.FUSE_OVER_IO_URING) != 0;
        foreach (UringQueue queue in isAgreed ? _queues : [])
        {
            int errno = queue.Register();
            if (errno != 0)
            {
                Server.Warn($"The kernel takes no requests over io_uring ({Errno.Format(errno)}); "
                    + "they travel through /dev/fuse.", null);
                isAgreed = false;
                break;
            }
        }

        IsActive = isAgreed;
        if (!isAgreed)
        {
            _device.Ready();
        }
    }

    public int Notify(ReadOnlySpan<byte> message) => _device.Notify(message);

    /// <summary>A thread has ended; a failure ends the transport.</summary>
    public void Ended(Exception? failure)
    {
        if (failure is not null)
        {
            _completion.TrySetException(failure);
        }
    }

    public void Dispose()
    {
        DisposeRings();
        _device.Dispose();
    }

    /// <summary>Which of the kernel's queues each thread has entries for.</summary>
    /// <param name="usable">Processors that this process may use: as many threads, up to 64.</param>
    /// <param name="online">Processors that run.</param>
    /// <param name="possible">Processors that there can be: as many queues.</param>
    /// <param name="depth">Entries of a queue whose processor runs; the others have one.</param>
    internal static int[][] Spread(int usable, int online, int possible, int depth)
    {
        int threads = Math.Clamp(usable, 1, Math.Min(MostThreads, Math.Max(possible, 1)));
        var numbers = new List<int>[threads];
        for (int queue = 0; queue < Math.Max(possible, threads); queue++)
        {
            List<int> of = numbers[queue % threads] ??= [];
            of.AddRange(Enumerable.Repeat(queue, queue < online ? depth : 1));
        }

        return [.. numbers.Select(list => list.ToArray())];
    }

    /// <summary>Processors as /sys lists them, such as <c>0-7</c> or <c>0,2-3</c>: one more than the last.</summary>
    internal static int ParseProcessors(string text)
    {
        int last = -1;
        foreach (string range in text.Trim().Split(','))
        {
            string end = range[(range.IndexOf('-') + 1)..];
            if (int.TryParse(end, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number < 65536)
            {
                last = Math.Max(last, number);
            }
        }

        return last + 1;
    }

    private static int Processors(string state)
    {
        try
        {
            return ParseProcessors(File.ReadAllText("/sys/devices/system/cpu/" + state));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Environment.ProcessorCount;
        }
    }

    private static int Depth(FuseSessionOptions options, int payload, int online) =>
        (int)Math.Clamp(options.BufferMemoryLimit / payload / Math.Max(online, 1), 2, MostEntries);

    private void Help(UringPlace place)
    {
        if (place.Process(Server))
        {
            place.Queue.GiveBack(place);
        }
    }

    private void Follow(Task device)
    {
        if (device.Exception is { } failure)
        {
            _completion.TrySetException(failure.InnerExceptions);
        }
        else
        {
            _completion.TrySetResult();
        }
    }

    private void DisposeRings()
    {
        Helpers.Dispose();
        foreach (UringQueue queue in _queues)
        {
            queue.Dispose();
        }
    }
}
