namespace ImageMount.TestSupport.Crash;

/// <summary>
/// Walks through the changes of <see cref="CrashFiles"/> once, forwards, and gives what a crash at the current point may
/// leave. Recovered files are valid until the walk goes on: they share what is durable.
/// </summary>
internal sealed class CrashReplay(CrashFiles files)
{
    private readonly IReadOnlyList<CrashOperation> _log = files.Log;
    private readonly FileState[] _files = [.. files.Devices.Select(device => new FileState(device))];
    private int _at;

    /// <summary>The changes.</summary>
    public IReadOnlyList<CrashOperation> Log => _log;

    /// <summary>Goes forward to the state in which <paramref name="cut"/> changes have happened.</summary>
    public void MoveTo(int cut)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(cut, _at);
        for (; _at < cut; _at++)
        {
            _files[_log[_at].File.Index].Apply(_log[_at]);
        }
    }

    /// <summary>What a crash now may leave of all files.</summary>
    public CrashFiles Recover(CrashPolicy policy, int seed)
    {
        var random = new Random(unchecked((seed * 397) ^ _at));
        var left = new CrashFiles();
        foreach (FileState file in _files)
        {
            _ = new CrashDevice(left, file.Name, file.Recover(Choose));
        }

        return left;

        // -1: the durable version.
        int Choose(int count) => policy switch
        {
            CrashPolicy.KeepAll => count - 1,
            CrashPolicy.DropAll => -1,
            _ => random.Next(count + 1) - 1,
        };
    }

    /// <summary>What is durable of one file, and what may be.</summary>
    private sealed class FileState(CrashDevice device)
    {
        private readonly SectorStore _durable = new(device.Initial);
        private readonly SortedDictionary<long, List<byte[]>> _pending = [];
        private readonly List<long> _pendingLengths = [];

        public string Name => device.Name;

        public void Apply(CrashOperation operation)
        {
            if (operation.Operation == TestOperation.Flush)
            {
                MakeDurable();
                return;
            }

            for (int i = 0; i < operation.Sectors.Length; i++)
            {
                long index = operation.FirstSector + i;
                if (!_pending.TryGetValue(index, out List<byte[]>? versions))
                {
                    _pending.Add(index, versions = []);
                }

                versions.Add(operation.Sectors[i]);
            }

            if (operation.Operation == TestOperation.Resize)
            {
                _pendingLengths.Add(operation.NewLength);
            }
        }

        public SectorStore Recover(Func<int, int> choose)
        {
            var left = new SectorStore(_durable);
            int length = choose(_pendingLengths.Count);
            if (length >= 0)
            {
                left.Length = _pendingLengths[length];
            }

            foreach ((long index, List<byte[]> versions) in _pending)
            {
                int version = choose(versions.Count);
                if (index * SectorStore.SectorSize >= left.Length)
                {
                    left.Put(index, new byte[SectorStore.SectorSize]); // Zeroes, should the file grow again.
                }
                else if (version >= 0)
                {
                    left.Put(index, versions[version]);
                }
            }

            ClearTail(left);
            return left;
        }

        /// <summary>Bytes of the last sector behind the end of the file are zero, should it grow again.</summary>
        private static void ClearTail(SectorStore store)
        {
            int inside = (int)(store.Length % SectorStore.SectorSize);
            if (inside != 0)
            {
                long index = store.Length / SectorStore.SectorSize;
                byte[] last = store.Sector(index).ToArray();
                last.AsSpan(inside).Clear();
                store.Put(index, last);
            }
        }

        private void MakeDurable()
        {
            foreach ((long index, List<byte[]> versions) in _pending)
            {
                _durable.Put(index, versions[^1]);
            }

            if (_pendingLengths.Count > 0)
            {
                _durable.Length = _pendingLengths[^1];
            }

            _pending.Clear();
            _pendingLengths.Clear();
        }
    }
}
