using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// A cached piece of an on-disk table, as stored. Readers take no lock: they note the version, read,
/// and ask whether the version still holds; a change makes it odd while it goes on. The object is used again for
/// another piece when its own is evicted, which changes the version too.
/// </summary>
public sealed class TableSlice
{
    private readonly ulong[] _words;
    private readonly bool _isReversed;
    private long _key;
    private int _version;

    internal TableSlice(int size, WordOrder order)
    {
        _words = GC.AllocateUninitializedArray<ulong>(size / sizeof(ulong), pinned: true);
        _isReversed = order.IsReversed();
    }

    /// <summary>Next in the chain of its bucket.</summary>
    internal TableSlice? Next;

    /// <summary>Used since the clock's hand came by.</summary>
    internal bool Referenced;

    /// <summary>Changed since it was captured for writing.</summary>
    internal bool IsDirty;

    /// <summary>Captured, and not known to be on disk yet.</summary>
    internal bool IsBeingWritten;

    /// <summary>Host offset of the piece.</summary>
    public long Key => Volatile.Read(ref _key);

    /// <summary>The bytes as stored. For writers under the cache's lock, and for whoever holds that lock.</summary>
    public Span<byte> Bytes => MemoryMarshal.AsBytes(_words.AsSpan());

    /// <summary>A word, in the machine's order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Word(int index)
    {
        ulong raw = Volatile.Read(ref _words[index]);
        return _isReversed ? BinaryPrimitives.ReverseEndianness(raw) : raw;
    }

    /// <summary>Begins reading without a lock. False: the slice holds another piece, or is being changed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryBeginRead(long key, out int version)
    {
        version = Volatile.Read(ref _version);
        return (version & 1) == 0 && Volatile.Read(ref _key) == key;
    }

    /// <summary>
    /// True when nothing changed since <see cref="TryBeginRead"/>; only then may what was read be believed.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool EndRead(int version)
    {
        Volatile.ReadBarrier();
        return Volatile.Read(ref _version) == version;
    }

    /// <summary>Begins a change; under the cache's lock.</summary>
    public void BeginChange()
    {
        Volatile.Write(ref _version, _version + 1);
        Volatile.WriteBarrier();
    }

    /// <summary>Stores a word within a change.</summary>
    public void SetWord(int index, ulong value) =>
        Volatile.Write(ref _words[index], _isReversed ? BinaryPrimitives.ReverseEndianness(value) : value);

    /// <summary>Ends a change.</summary>
    public void EndChange() => Volatile.Write(ref _version, _version + 1);

    /// <summary>Makes it another piece; within a change.</summary>
    internal void SetKey(long key) => Volatile.Write(ref _key, key);
}
