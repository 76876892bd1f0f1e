using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Journal;

/// <summary>Bytes in the slots of a journal that are not a block's.</summary>
/// <param name="Slot">First slot.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Hash">SHA-256 of them.</param>
internal readonly record struct JournalPart(uint Slot, int Length, byte[] Hash)
{
    /// <summary>Slots that it takes.</summary>
    public uint SlotCount => (uint)((Length + JournalBlocks.BlockSize - 1) / JournalBlocks.BlockSize);
}

/// <summary>
/// The file of a journal. It has a name from the moment it is made (a file without one could not be given a name
/// later on every file system, and not at all after a crash), belongs to its user alone, and is removed when all that
/// it holds is in the folder. Layout: two headers of 4 KiB, written in turn, of which the valid one with the higher
/// number counts; then slots of 4 KiB, sparse, in which blocks and the index stand. A header is written only when all
/// that it leads to is on the disk.
/// </summary>
/// <param name="path">Its path.</param>
/// <param name="folder">The folder that it belongs to.</param>
/// <param name="diskLength">Bytes of the disk.</param>
internal sealed class JournalFile(string path, string folder, long diskLength) : IDisposable
{
    /// <summary>Most slots.</summary>
    public const uint MaxSlots = 1u << 30;

    /// <summary>Most bytes of its index, and of its state.</summary>
    public const int MaxPart = 1 << 30;

    private const int HeaderSize = 4096;
    private const int HashSize = 32;
    private const int IdSize = 16;
    private const string UnnamedPrefix = ".new-";
    private const uint AppliedFlag = 1;
    private const uint Version = 2;
    private const long SlotsAt = 2 * HeaderSize;
    private static readonly byte[] Magic = "imgmount folder journal\n"u8.ToArray();
    private SafeFileHandle? _handle;
    private long _number;
    private JournalPart _index;
    private JournalPart _state;

    /// <summary>Its path.</summary>
    public string Path { get; } = path;

    /// <summary>Told what is about to be done to the file, and again when it is: tests die there.</summary>
    public Action<string>? Hook { get; set; }

    /// <summary>The folder that it belongs to.</summary>
    public string Folder { get; } = folder;

    /// <summary>Bytes of the disk.</summary>
    public long DiskLength { get; } = diskLength;

    /// <summary>True when it holds a journal that can be gone on with.</summary>
    public bool IsSaved => _number > 0;

    /// <summary>True when everything in it is in the folder too.</summary>
    public bool IsApplied { get; private set; }

    /// <summary>Id of the last applying that it knows of; empty before the first.</summary>
    public string ApplyId { get; private set; } = "";

    /// <summary>True for a file that begins as journals do.</summary>
    public static bool LooksLikeOne(string path)
    {
        using SafeFileHandle? handle = SysOpen.TryOpen(path, SysOpen.O_RDONLY | SysOpen.O_NONBLOCK, out _);
        if (handle is null || Stat.TryGet(handle, out StatInfo info) != 0 || !info.IsRegular)
        {
            return false;
        }

        byte[] start = new byte[Magic.Length];
        using var held = new HeldDescriptor(handle);

        // Headers are written in turn: there may be only the second.
        for (long at = 0; at <= HeaderSize; at += HeaderSize)
        {
            if (SysPread.Read(held.Number, start, at, 1, out _) == start.Length && start.AsSpan().SequenceEqual(Magic))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// Removes a file of ours that was never saved: its maker died before, and nothing can be made of it. False for any
    /// other.
    /// </summary>
    public static bool RemoveUnsaved(string path)
    {
        using SafeFileHandle? handle = SysOpen.TryOpen(path, SysOpen.O_RDONLY | SysOpen.O_NONBLOCK, out _);
        if (handle is null || Stat.TryGet(handle, out StatInfo info) != 0 || !info.IsRegular
            || SysFlock.TryLock(handle) != 0)
        {
            return false;
        }

        byte[] headers = new byte[2 * HeaderSize];
        using var held = new HeldDescriptor(handle);
        SysPread.Read(held.Number, headers, 0, 1, out int errno);
        bool isUnsaved = errno == 0 && !headers.AsSpan().ContainsAnyExcept((byte)0) && IsStillThere(handle, path);
        try
        {
            if (isUnsaved)
            {
                // While it is locked, so that nobody begins with it.
                File.Delete(path);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            isUnsaved = false; // and is told of as one that cannot be used
        }

        SysFlock.Unlock(handle);
        return isUnsaved;
    }

    /// <summary>Opens a journal that was kept.</summary>
    /// <exception cref="BlockException">There is none, it is damaged, or somebody is using it.</exception>
    public static JournalFile Open(string path)
    {
        SafeFileHandle handle = SysOpen.TryOpen(path, SysOpen.O_RDWR, out int errno)
            ?? throw HostErrors.Make(errno, "cannot open the journal", path);
        try
        {
            if (Stat.TryGet(handle, out StatInfo info) != 0 || !info.IsRegular)
            {
                throw Damaged(path, "it is not a file");
            }

            Lock(handle, path);
            if (!IsStillThere(handle, path))
            {
                // Whoever had it removed it when we had it open already.
                throw HostErrors.Make(Errno.ENOENT, "cannot open the journal", path);
            }

            JournalFile? newest = null;
            for (int i = 0; i < 2; i++)
            {
                JournalFile? file = ReadHeader(handle, path, i * HeaderSize);
                newest = file is not null && (newest is null || file._number > newest._number) ? file : newest;
            }

            newest = newest ?? throw Damaged(path, "it has no valid header");
            newest._handle = handle;
            return newest;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Writes a part of a slot.</summary>
    public void WriteSlot(uint slot, int within, ReadOnlySpan<byte> bytes) => Write(Offset(slot) + within, bytes);

    /// <summary>Reads a part of a slot; what was never written is zero.</summary>
    public void ReadSlot(uint slot, int within, Span<byte> buffer) => Read(Offset(slot) + within, buffer);

    /// <summary>
    /// Makes everything written so far durable, and then what leads to it: when this returns, or at no time, the
    /// journal is this one.
    /// </summary>
    /// <param name="index">The index, and the slot that it goes to.</param>
    /// <param name="state">What else is kept; null when that is as before.</param>
    /// <param name="applyId">Id of the last applying.</param>
    /// <param name="isApplied">Everything is in the folder too.</param>
    public void Save(
        (uint Slot, byte[] Bytes) index, (uint Slot, byte[] Bytes)? state, string applyId, bool isApplied)
    {
        JournalPart newIndex = WritePart(index);
        JournalPart newState = state is { } part ? WritePart(part) : _state;
        Sync();
        long number = _number + 1;
        Write(number % 2 * HeaderSize, MakeHeader(number, newIndex, newState, applyId, isApplied));
        Sync();
        (_number, _index, _state, ApplyId, IsApplied) = (number, newIndex, newState, applyId, isApplied);
    }

    /// <summary>Reads the index that was saved last.</summary>
    public byte[] ReadIndex(out JournalPart part) => ReadPart(part = _index);

    /// <summary>Reads what else was saved.</summary>
    public byte[] ReadState(out JournalPart part) => ReadPart(part = _state);

    /// <summary>All that it holds is in the folder: removes it.</summary>
    public void Remove()
    {
        if (_handle is null)
        {
            return;
        }

        Hook?.Invoke("unlink");
        try
        {
            File.Delete(Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                BlockErrorKind.IoError,
                $"the journal '{Path}', which is not needed any more, cannot be removed: {e.Message}", e);
        }

        Hook?.Invoke("unlink, done");
        Dispose();
        _number = 0;
        (_index, _state) = (default, default);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle is not null)
        {
            SysFlock.Unlock(_handle);
            _handle.Dispose();
        }

        _handle = null;
    }

    /// <summary>What is thrown when it is not what was written.</summary>
    public BlockException Damaged(string what) => Damaged(Path, what);

    private static BlockException Damaged(string path, string what) =>
        new(BlockErrorKind.InvalidData, $"'{path}' is no journal of a folder, or is damaged: {what}");

    private static void Lock(SafeFileHandle handle, string path)
    {
        int result = SysFlock.TryLock(handle);
        if (result == -Errno.EWOULDBLOCK)
        {
            throw new BlockException(BlockErrorKind.InUse, $"the journal '{path}' is in use by another process");
        }
    }

    private static long Offset(uint slot) => SlotsAt + (long)slot * JournalBlocks.BlockSize;

    private static JournalFile? ReadHeader(SafeFileHandle handle, string path, long at)
    {
        byte[] header = new byte[HeaderSize];
        using var held = new HeldDescriptor(handle);
        if (SysPread.Read(held.Number, header, at, 1, out int errno) != HeaderSize || errno != 0
            || !SHA256.HashData(header.AsSpan(0, HeaderSize - HashSize)).AsSpan()
                .SequenceEqual(header.AsSpan(HeaderSize - HashSize)))
        {
            return null;
        }

        var reader = new SpanReader(header);
        if (!reader.TryTake(Magic.Length, out ReadOnlySpan<byte> magic) || !magic.SequenceEqual(Magic)
            || !reader.TryRead(out Le32 version))
        {
            return null;
        }

        if (version != Version)
        {
            throw BlockException.Unsupported(
                string.Create(CultureInfo.InvariantCulture, $"'{path}' is a journal of version {version.Value}"),
                "Another version of imgmount made it; use that.");
        }

        if (!reader.TryRead(out Le64 number) || !reader.TryRead(out Le64 length)
            || !TryReadPart(ref reader, out JournalPart index) || !TryReadPart(ref reader, out JournalPart state)
            || !reader.TryRead(out Le32 flags) || !reader.TryTake(IdSize, out ReadOnlySpan<byte> id)
            || !reader.TryRead(out Le32 folderLength)
            || !reader.TryTake((int)Math.Min(folderLength, int.MaxValue), out ReadOnlySpan<byte> folder)
            || number == 0 || number > long.MaxValue || length > long.MaxValue)
        {
            throw Damaged(path, "its header makes no sense");
        }

        return new JournalFile(path, Encoding.UTF8.GetString(folder), (long)length.Value)
        {
            _number = (long)number.Value,
            _index = index,
            _state = state,
            IsApplied = (flags & AppliedFlag) != 0,
            ApplyId = Encoding.ASCII.GetString(id).TrimEnd('\0'),
        };
    }

    private static bool TryReadPart(ref SpanReader reader, out JournalPart part)
    {
        part = default;
        if (!reader.TryRead(out Le32 slot) || !reader.TryRead(out Le32 length)
            || !reader.TryTake(HashSize, out ReadOnlySpan<byte> hash) || slot >= MaxSlots || length > MaxPart)
        {
            return false;
        }

        part = new JournalPart(slot, (int)length.Value, hash.ToArray());
        return true;
    }

    private byte[] MakeHeader(long number, JournalPart index, JournalPart state, string applyId, bool isApplied)
    {
        byte[] name = Encoding.UTF8.GetBytes(Folder);
        byte[] header = new byte[HeaderSize];
        using var stream = new MemoryStream(header);
        using var writer = new BinaryWriter(stream);
        writer.Write(Magic);
        writer.Write(Version);
        writer.Write(number);
        writer.Write(DiskLength);
        foreach (JournalPart part in (JournalPart[])[index, state])
        {
            writer.Write(part.Slot);
            writer.Write(part.Length);
            writer.Write(part.Hash ?? new byte[HashSize]);
        }

        writer.Write(isApplied ? AppliedFlag : 0u);
        writer.Write(Encoding.ASCII.GetBytes(applyId.PadRight(IdSize, '\0')));
        if (name.Length > HeaderSize - HashSize - (int)stream.Position - sizeof(int))
        {
            throw BlockException.Limit("the path of the folder is too long for a journal", name.Length, 3800);
        }

        writer.Write(name.Length);
        writer.Write(name);
        writer.Flush();
        SHA256.HashData(header.AsSpan(0, HeaderSize - HashSize), header.AsSpan(HeaderSize - HashSize));
        return header;
    }

    private JournalPart WritePart((uint Slot, byte[] Bytes) part)
    {
        if (part.Bytes.Length > MaxPart)
        {
            throw BlockException.Limit("the index of the journal is too long", part.Bytes.Length, MaxPart);
        }

        Write(Offset(part.Slot), part.Bytes);
        return new JournalPart(part.Slot, part.Bytes.Length, SHA256.HashData(part.Bytes));
    }

    private byte[] ReadPart(JournalPart part)
    {
        byte[] bytes = new byte[part.Length];
        Read(Offset(part.Slot), bytes);
        return part.Length == 0 || SHA256.HashData(bytes).AsSpan().SequenceEqual(part.Hash)
            ? bytes
            : throw Damaged("a part of it is not what was written");
    }

    private SafeFileHandle Handle()
    {
        if (_handle is not null)
        {
            return _handle;
        }

        const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        const uint OwnerReadWrite = 0x180; // 0600
        string directory = System.IO.Path.GetDirectoryName(Path)!;
        try
        {
            if (!OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(directory, Owner);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                BlockErrorKind.IoError, $"the folder for journals, '{directory}', cannot be made: {e.Message}", e);
        }

        // It is locked before it has the name by which others find it, so that nobody takes it for one that was left.
        Hook?.Invoke("open");
        string unnamed = System.IO.Path.Join(directory, UnnamedPrefix + System.IO.Path.GetFileName(Path));
        SafeFileHandle handle = SysOpen.TryOpen(
            unnamed, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, OwnerReadWrite)
            ?? throw HostErrors.Make(errno, "cannot make the journal", Path);
        try
        {
            Lock(handle, Path);
            File.Move(unnamed, Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            handle.Dispose();
            throw new BlockException(BlockErrorKind.IoError, $"cannot make the journal '{Path}': {e.Message}", e);
        }

        _handle = handle;
        using SafeFileHandle? parent = SysOpen.TryOpen(directory, SysOpen.O_RDONLY, out _);
        int result = parent is null ? 0 : SysFsync.Sync(parent);
        if (result != 0)
        {
            throw HostErrors.Make(-result, "cannot make the journal", Path);
        }

        Hook?.Invoke("open, done");
        return handle;
    }

    private static bool IsStillThere(SafeFileHandle handle, string path) =>
        Stat.TryGet(handle, out StatInfo own) == 0 && Stat.TryGet(path, out StatInfo now) == 0
        && (own.DeviceMajor, own.DeviceMinor, own.Inode) == (now.DeviceMajor, now.DeviceMinor, now.Inode);

    private void Write(long offset, ReadOnlySpan<byte> bytes)
    {
        using var held = new HeldDescriptor(Handle());
        Hook?.Invoke("pwrite");
        SysPwrite.Write(held.Number, bytes, offset, 1, out int errno);
        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot write the journal", Path, offset);
        }

        Hook?.Invoke("pwrite, done");
    }

    private void Read(long offset, Span<byte> buffer)
    {
        using var held = new HeldDescriptor(Handle());
        long count = SysPread.Read(held.Number, buffer, offset, 1, out int errno);
        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot read the journal", Path, offset);
        }

        buffer[(int)count..].Clear();
    }

    private void Sync()
    {
        using var held = new HeldDescriptor(Handle());
        Hook?.Invoke("fdatasync");
        int result = SysFdatasync.Sync(held.Number);
        if (result != 0)
        {
            throw HostErrors.Make(-result, "cannot make the journal durable", Path);
        }

        Hook?.Invoke("fdatasync, done");
    }
}
