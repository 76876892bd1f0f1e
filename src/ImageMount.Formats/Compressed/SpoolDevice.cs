using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Compressed;

/// <summary>How units are spooled.</summary>
/// <param name="Directory">Folder of the temporary file, or null.</param>
/// <param name="Limit">Most bytes in it.</param>
/// <param name="Verify">Nothing of a unit is shown before all of it was decoded and checked.</param>
/// <param name="Progress">Told how far a unit is that takes long, since the first read may be part of opening; or
/// null.</param>
internal readonly record struct SpoolSettings(
    string? Directory, long Limit, bool Verify, IProgress<OpenProgress>? Progress);

/// <summary>
/// The large units of a compressed file, as a disk at the offsets of the whole content. What is asked for is decoded
/// from the start of its unit on and put into a sparse temporary file; then it is read from there, so that going back
/// costs nothing. Units are decoded independently of each other, the next one ahead of a reader who goes through them
/// in order. When the file is full, the unit that was not used for the longest time makes room.
/// </summary>
/// <remarks>
/// A unit is in one of these states: not begun; decoded up to <see cref="Unit.Shown"/>, with a decoder that can go on
/// from there or without one (it then starts over, without writing again); complete; damaged, which is remembered, so
/// that not every reader finds it out anew. Who decodes holds the unit's gate. A unit with users is not dropped.
/// </remarks>
internal sealed class SpoolDevice : BlockDevice
{
    /// <summary>Decoders that wait half way; each may hold a large window.</summary>
    private const int MaxWaiting = 4;

    /// <summary>A reader who asks for little is given this much, so that decoding goes in larger steps.</summary>
    private const int Step = 256 << 10;

    /// <summary>Largest unit that is decoded before anybody asks for it.</summary>
    private const long MaxAhead = 64 << 20;

    private const int ReportShift = 26;

    private readonly PackedContent _content;
    private readonly SpoolSettings _settings;
    private readonly long _smallest;
    private readonly SpoolFile _file;
    private readonly Dictionary<int, Unit> _units = [];
    private readonly List<Unit> _waiting = [];
    private readonly Lock _lock = new();
    private readonly InFlight _ahead = new();
    private readonly CancellationTokenSource _stop = new();
    private long _clock;
    private long _stored;
    private int _aheadCount;
    private int _lastRead = -2;

    /// <summary>Makes the device.</summary>
    /// <param name="content">The compressed file.</param>
    /// <param name="smallest">Units that are not larger are somebody else's.</param>
    /// <param name="settings">How to spool.</param>
    public SpoolDevice(PackedContent content, long smallest, in SpoolSettings settings)
    {
        _content = content;
        _smallest = smallest;
        _settings = settings;
        _file = new SpoolFile(settings.Directory);
    }

    /// <inheritdoc/>
    public override long Length => _content.Index.Length;

    /// <summary>Bytes in the temporary file; for tests.</summary>
    public long Stored => Interlocked.Read(ref _stored);

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            int number = _content.Index.Find(offset);
            PackedUnit place = _content.Index[number];
            int count = (int)Math.Min(buffer.Length, place.GuestEnd - offset);
            long end = offset - place.GuestOffset + count;
            Unit unit = Enter(number);
            try
            {
                if (Volatile.Read(ref unit.Shown) < end)
                {
                    LookAhead(number);
                    await DecodeAsync(unit, end, cancellationToken).ConfigureAwait(false);
                }

                _file.Read(offset, buffer.Span[..count]);
            }
            finally
            {
                Leave(unit);
            }

            LookAhead(number);
            offset += count;
            buffer = buffer[count..];
        }
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _ahead.DrainAsync().ConfigureAwait(false);
        foreach (Unit unit in _units.Values)
        {
            unit.Feed?.Dispose();
        }

        _file.Dispose();
        _stop.Dispose();
    }

    private Unit Enter(int number)
    {
        lock (_lock)
        {
            if (!_units.TryGetValue(number, out Unit? unit))
            {
                unit = new Unit(number, _content.Index[number]);
                _units.Add(number, unit);
            }

            unit.Users++;
            unit.LastUse = ++_clock;
            return unit;
        }
    }

    private void Leave(Unit unit)
    {
        lock (_lock)
        {
            unit.Users--;
            if (unit.Feed is null || unit.Users > 0)
            {
                return;
            }

            _waiting.RemoveAll(other => other.Feed is null || other == unit);
            _waiting.Add(unit);
            if (_waiting.Count > MaxWaiting
                && _waiting.Where(other => other.Users == 0).MinBy(other => other.LastUse) is { } oldest)
            {
                oldest.DropFeed();
            }
        }
    }

    private async ValueTask DecodeAsync(Unit unit, long end, CancellationToken cancellationToken)
    {
        bool whole = _settings.Verify && _content.HasCheck(unit.Number);
        await unit.Gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (unit.Shown >= end)
            {
                return;
            }

            if (unit.Damage is { } damage)
            {
                throw damage.Again();
            }

            long target = whole ? unit.Place.Length : Math.Min(unit.Place.Length, end + Step);
            unit.Feed ??= new UnitFeed(_content, unit.Number);
            await unit.Feed.RunAsync(target, (at, bytes) => Keep(unit, at, bytes, !whole), cancellationToken)
                .ConfigureAwait(false);
            Volatile.Write(ref unit.Shown, Math.Max(unit.Shown, unit.Feed.Made));
            if (unit.Feed.HasEnded)
            {
                unit.DropFeed();
            }
        }
        catch (BlockException e)
        {
            unit.DropFeed();
            if (e.Kind == BlockErrorKind.InvalidData)
            {
                unit.Damage = new Damage(e);
                unit.Shown = 0; // What was shown of it before is not to be trusted either.
            }
            else if (e.Kind == BlockErrorKind.NoSpace && whole)
            {
                GiveUp(unit, e);
            }

            throw;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            unit.DropFeed(); // Who knows where it stands.
            throw;
        }
        finally
        {
            unit.Gate.Release();
        }
    }

    /// <summary>Puts decoded bytes into the file, unless they are there from an earlier start.</summary>
    private void Keep(Unit unit, long at, ReadOnlySpan<byte> bytes, bool show)
    {
        long end = at + bytes.Length;
        if (at >> ReportShift != end >> ReportShift)
        {
            _settings.Progress?.Report(new OpenProgress(_content.File.Name, "unpacking", end, unit.Place.Length));
        }

        int known = (int)Math.Clamp(unit.Written - at, 0, bytes.Length);
        if (known < bytes.Length)
        {
            bytes = bytes[known..];
            MakeRoom(bytes.Length);
            long stored = _file.Write(unit.Place.GuestOffset + at + known, bytes);
            lock (_lock)
            {
                unit.Stored += stored;
                _stored += stored;
            }

            unit.Written = end;
        }

        if (show)
        {
            Volatile.Write(ref unit.Shown, Math.Max(unit.Shown, end));
        }
    }

    /// <summary>
    /// A unit that does not fit, and of which nothing was shown yet: others get its room, and it is not tried again when it
    /// alone was too large.
    /// </summary>
    private void GiveUp(Unit unit, BlockException failure)
    {
        lock (_lock)
        {
            if (unit.Stored > _settings.Limit / 2)
            {
                unit.Damage = new Damage(failure);
            }

            if (_file.TryRelease(unit.Place.GuestOffset, unit.Written))
            {
                _stored -= unit.Stored;
                unit.Stored = 0;
                unit.Written = 0;
            }
        }
    }

    private void MakeRoom(long count)
    {
        lock (_lock)
        {
            while (_stored + count > _settings.Limit)
            {
                Unit? oldest = _units.Values.Where(unit => unit.Users == 0 && unit.Stored > 0)
                    .MinBy(unit => unit.LastUse);
                if (oldest is null || !_file.TryRelease(oldest.Place.GuestOffset, oldest.Place.Length))
                {
                    throw new BlockException(
                        BlockErrorKind.NoSpace, "the temporary file for unpacked data is full")
                    {
                        Expected = $"at most {_settings.Limit} bytes",
                        Hint = "Allow more with the option spool-limit, or unpack the file.",
                    };
                }

                _stored -= oldest.Stored;
                oldest.DropFeed();
                _units.Remove(oldest.Number);
            }
        }
    }

    /// <summary>Begins to decode the unit after the one that is being read, when units are read in order.</summary>
    private void LookAhead(int number)
    {
        int next = number + 1;
        lock (_lock)
        {
            bool inOrder = number == _lastRead || number == _lastRead + 1;
            _lastRead = number;
            if (!inOrder || next >= _content.Index.Count || _units.ContainsKey(next) || _stop.IsCancellationRequested
                || _aheadCount >= Math.Max(1, Environment.ProcessorCount - 1))
            {
                return;
            }

            PackedUnit place = _content.Index[next];
            if (place.IsZero || place.Length <= _smallest || place.Length > MaxAhead)
            {
                return;
            }

            Interlocked.Increment(ref _aheadCount);
        }

        Unit unit = Enter(next);
        int slot = _ahead.Enter();
        ThreadPool.UnsafeQueueUserWorkItem(
            state => _ = state.device.DecodeAheadAsync(state.unit, state.slot), (device: this, unit, slot), false);
    }

    private async Task DecodeAheadAsync(Unit unit, int slot)
    {
        try
        {
            await DecodeAsync(unit, unit.Place.Length, _stop.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            // Nobody asked for it yet. Whoever does gets the error himself.
        }
        finally
        {
            Interlocked.Decrement(ref _aheadCount);
            Leave(unit);
            _ahead.Exit(slot);
        }
    }

    /// <summary>What became of one unit.</summary>
    private sealed class Unit(int number, PackedUnit place)
    {
        public readonly int Number = number;
        public readonly PackedUnit Place = place;
        public readonly SemaphoreSlim Gate = new(1, 1);

        /// <summary>Bytes from its start that may be read from the file.</summary>
        public long Shown;

        /// <summary>Bytes from its start that were put into the file.</summary>
        public long Written;

        /// <summary>Bytes of the file that it takes.</summary>
        public long Stored;

        public int Users;
        public long LastUse;
        public UnitFeed? Feed;
        public Damage? Damage;

        public void DropFeed()
        {
            Feed?.Dispose();
            Feed = null;
        }
    }

    /// <summary>A failure, to be told again.</summary>
    private sealed class Damage(BlockException first)
    {
        public BlockException Again()
        {
            var again = new BlockException(first.Kind, first.Message)
            {
                Offset = first.Offset,
                Found = first.Found,
                Expected = first.Expected,
                Hint = first.Hint,
            };
            if (first.Node is { } node)
            {
                again.Stamp(node, null);
            }

            return again;
        }
    }
}
