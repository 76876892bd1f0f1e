namespace ImageMount.Mounting.Tree;

/// <summary>A text that is made when the file is opened and does not change while it is open.</summary>
public sealed class ReportFile : TreeNode
{
    private readonly Func<IAsyncEnumerable<ReadOnlyMemory<byte>>> _source;
    private readonly Func<ValueTask>? _sync;

    internal ReportFile(string name, TreeDirectory parent, TreeReport report)
        : base(name, parent) => (_source, _sync) = (report.Content, report.Sync);

    /// <summary>Starts a new text.</summary>
    public ReportReader Open() => new(_source);

    /// <summary>What fsync(2) of the file does: most often nothing.</summary>
    public ValueTask SyncAsync() => _sync?.Invoke() ?? default;
}

/// <summary>A report, and what it stands for.</summary>
/// <param name="Name">Name of the file.</param>
/// <param name="Content">Makes its text.</param>
/// <param name="Sync">Makes true what it tells of, when somebody syncs it; null: nothing to do.</param>
public sealed record TreeReport(
    string Name, Func<IAsyncEnumerable<ReadOnlyMemory<byte>>> Content, Func<ValueTask>? Sync = null);

/// <summary>
/// Reads a text that is produced in pieces, so that the map of a huge disk is never in memory as a whole. Reading on is
/// cheap; reading back starts the text again.
/// </summary>
public sealed class ReportReader(Func<IAsyncEnumerable<ReadOnlyMemory<byte>>> source) : IAsyncDisposable
{
    private readonly SemaphoreSlim _turn = new(1, 1);
    private IAsyncEnumerator<ReadOnlyMemory<byte>>? _pieces;
    private ReadOnlyMemory<byte> _piece;
    private long _pieceOffset;

    /// <summary>Fills the buffer from <paramref name="offset"/>; short only at the end of the text.</summary>
    public async ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_pieces is null || offset < _pieceOffset)
            {
                await RestartAsync().ConfigureAwait(false);
            }

            int done = 0;
            while (done < buffer.Length)
            {
                long skip = offset + done - _pieceOffset;
                if (skip >= _piece.Length)
                {
                    _pieceOffset += _piece.Length;
                    bool more = await _pieces!.MoveNextAsync().ConfigureAwait(false);
                    _piece = more ? _pieces.Current : default;
                    if (!more)
                    {
                        break;
                    }

                    continue;
                }

                int count = (int)Math.Min(_piece.Length - skip, buffer.Length - done);
                _piece.Slice((int)skip, count).CopyTo(buffer[done..]);
                done += count;
            }

            return done;
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _pieces?.DisposeAsync() ?? default;

    private async ValueTask RestartAsync()
    {
        if (_pieces is not null)
        {
            await _pieces.DisposeAsync().ConfigureAwait(false);
        }

        _pieces = source().GetAsyncEnumerator();
        _piece = default;
        _pieceOffset = 0;
    }
}
