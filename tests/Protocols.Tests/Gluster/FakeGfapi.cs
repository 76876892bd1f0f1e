using System.Collections.Concurrent;
using ImageMount.Interop;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>What the fake library does with a request.</summary>
internal enum FakeGfapiDoes
{
    /// <summary>Carries it out and tells so, on another thread.</summary>
    Usual,

    /// <summary>Carries it out and tells so before it returns.</summary>
    AtOnce,

    /// <summary>Carries it out and tells so twice.</summary>
    Twice,

    /// <summary>Keeps it until <see cref="FakeGfapi.Release"/>, and does not touch anything before.</summary>
    Hold,

    /// <summary>Tells an error, on another thread; nothing happens.</summary>
    Fail,

    /// <summary>Does not take it.</summary>
    Refuse,

    /// <summary>Does a part of it.</summary>
    Short,
}

/// <summary>A library of our own with one brick, which can crash and forget, and whose every answer a test decides.</summary>
internal sealed class FakeGfapi : IGfapi
{
    private readonly Lock _lock = new();
    private readonly List<FakeHeld> _held = [];
    private readonly Dictionary<long, (long Owner, FakeGfapiFile File)> _fences = [];

    /// <summary>The file's content, as readers see it.</summary>
    public byte[] Disk { get; set; } = [];

    /// <summary>What survives a crash.</summary>
    public byte[] Durable { get; set; } = [];

    /// <summary>Decides; the number is the errno of Fail and Refuse, and the bytes that Short does.</summary>
    public Func<GfapiCommand, (FakeGfapiDoes Does, int Number)> Decide { get; set; } = _ => (FakeGfapiDoes.Usual, 0);

    /// <summary>Called before connecting, with its result.</summary>
    public Func<int> OnConnect { get; set; } = () => 0;

    /// <summary>Called before opening, with its result; may block.</summary>
    public Func<int> OnOpen { get; set; } = () => 0;

    /// <summary>Called before taking the lock, with its result.</summary>
    public Func<int> OnFence { get; set; } = () => 0;

    /// <summary>Whether holes can be asked for.</summary>
    public Func<long, int, long>? OnSeek { get; set; }

    /// <summary>The brick does not run.</summary>
    public bool IsDown { get; set; }

    public int Connects { get; private set; }

    public int Opens { get; private set; }

    public int OpenFiles { get; private set; }

    public int Finishes { get; private set; }

    public int MostAtOnce { get; private set; }

    /// <summary>Lives of the brick; a file does not survive one that it has a lock in.</summary>
    public int Life { get; private set; }

    public ConcurrentQueue<GfapiCommand> Commands { get; } = [];

    /// <summary>Requests that are held.</summary>
    public FakeHeld[] Held
    {
        get
        {
            lock (_lock)
            {
                return [.. _held];
            }
        }
    }

    public int TryConnect(GfapiTarget target, out IGfapiVolume? volume)
    {
        Connects++;
        int result = OnConnect();
        volume = result == 0 ? new FakeVolume(this) : null;
        return result;
    }

    /// <summary>The host of the brick loses power and is back: what was not flushed is gone.</summary>
    public void Crash()
    {
        lock (_lock)
        {
            Life++;
            Disk = [.. Durable];
            _fences.Clear();
        }
    }

    /// <summary>Carries a held request out, now, and tells so; or tells an error.</summary>
    public void Release(FakeHeld held, int errno = 0)
    {
        lock (_lock)
        {
            _held.Remove(held);
        }

        Tell(held, errno != 0 ? -errno : Carry(held.File, held.Command, held.Command.Count));
    }

    internal int Submit(FakeGfapiFile file, in GfapiCommand command, IGfapiCompletion completion)
    {
        Commands.Enqueue(command);
        var request = new FakeHeld(file, command, completion);
        lock (_lock)
        {
            MostAtOnce = Math.Max(MostAtOnce, ++file.Inside);
        }

        (FakeGfapiDoes does, int number) = Decide(command);
        switch (does)
        {
            case FakeGfapiDoes.Refuse:
                lock (_lock)
                {
                    file.Inside--;
                }

                return -number;
            case FakeGfapiDoes.Hold:
                lock (_lock)
                {
                    _held.Add(request);
                }

                return 0;
            case FakeGfapiDoes.AtOnce:
                Tell(request, Carry(file, command, command.Count));
                return 0;
            case FakeGfapiDoes.Fail:
                ThreadPool.QueueUserWorkItem(_ => Tell(request, -number));
                return 0;
            case FakeGfapiDoes.Short:
                ThreadPool.QueueUserWorkItem(
                    _ => Tell(request, Carry(file, request.Command, Math.Min(number, request.Command.Count))));
                return 0;
            default:
                ThreadPool.QueueUserWorkItem(_ =>
                {
                    Tell(request, Carry(file, request.Command, request.Command.Count));
                    if (does == FakeGfapiDoes.Twice)
                    {
                        completion.Complete(-Errno.EIO);
                    }
                });
                return 0;
        }
    }

    private void Tell(FakeHeld request, long result)
    {
        lock (_lock)
        {
            request.File.Inside--;
        }

        request.Completion.Complete(result);
    }

    private long Carry(FakeGfapiFile file, in GfapiCommand command, long count)
    {
        lock (_lock)
        {
            if (IsDown || file.IsDead(Life))
            {
                return IsDown ? -Errno.ENOTCONN : -Errno.EBADFD;
            }

            int at = (int)command.Offset;
            switch (command.Operation)
            {
                case GfapiOperation.Read:
                    count = Math.Clamp(Disk.Length - command.Offset, 0, count);
                    Disk.AsSpan(at, (int)count).CopyTo(command.Buffer.Span);
                    return count;
                case GfapiOperation.Write:
                    command.Buffer.Span[..(int)count].CopyTo(Disk.AsSpan(at));
                    return count;
                case GfapiOperation.Sync:
                    Durable = [.. Disk];
                    return 0;
                case GfapiOperation.Truncate:
                    byte[] disk = Disk;
                    Array.Resize(ref disk, at);
                    Disk = disk;
                    return 0;
                default:
                    Disk.AsSpan(at, (int)count).Clear();
                    return 0;
            }
        }
    }

    /// <summary>A request that the library has.</summary>
    internal sealed record FakeHeld(FakeGfapiFile File, GfapiCommand Command, IGfapiCompletion Completion);

    private sealed class FakeVolume(FakeGfapi library) : IGfapiVolume
    {
        public int TryOpen(string path, bool writable, out IGfapiFile? file)
        {
            int result = library.OnOpen();
            result = result == 0 && library.IsDown ? -Errno.ENOTCONN : result;
            file = null;
            if (result == 0)
            {
                library.Opens++;
                library.OpenFiles++;
                file = new FakeGfapiFile(library);
            }

            return result;
        }

        public int TryCreate(string path) => -Errno.EEXIST;

        public int TryRemove(string path) => 0;

        public void Finish()
        {
            Assert.Equal(0, library.OpenFiles);
            library.Finishes++;
        }
    }

    internal sealed class FakeGfapiFile(FakeGfapi library) : IGfapiFile
    {
        private readonly int _life = library.Life;
        private bool _isFenced;
        private bool _isClosed;

        /// <summary>Requests that the library has, under its lock.</summary>
        public int Inside { get; set; }

        /// <summary>Opened before the brick crashed, with a lock.</summary>
        public bool IsDead(int life) => _isFenced && life != _life && !IsImmortal;

        /// <summary>An old library opens files again behind one's back.</summary>
        public bool IsImmortal => library.Reopens;

        public int Submit(in GfapiCommand command, IGfapiCompletion completion)
        {
            Assert.False(_isClosed);
            return library.Submit(this, command, completion);
        }

        public int TryGetSize(out long size, out long allocated)
        {
            size = allocated = library.Disk.Length;
            return 0;
        }

        public long Seek(long offset, int whence) =>
            library.OnSeek is { } seek ? seek(offset, whence) : -Errno.EOPNOTSUPP;

        public int TryFence(long offset, long owner)
        {
            int result = library.OnFence();
            lock (library._lock)
            {
                if (result == 0)
                {
                    library._fences[offset] = (owner, this);
                    _isFenced = true;
                }
            }

            return result;
        }

        public int TryTestFence(long offset)
        {
            lock (library._lock)
            {
                return library.IsDown || IsDead(library.Life) ? -Errno.EBADFD : library._fences.ContainsKey(offset) ? 1 : 0;
            }
        }

        public void Close()
        {
            Assert.Equal(0, Inside); // Else the end of what is inside would never be told.
            Assert.False(_isClosed);
            _isClosed = true;
            library.OpenFiles--;
        }
    }

    /// <summary>Files survive the crash of the brick, as with a library that takes no notice of locks.</summary>
    public bool Reopens { get; set; }
}
