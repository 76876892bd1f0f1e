using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>What a logical unit is and can do, as it says itself.</summary>
internal sealed record IscsiUnit
{
    /// <summary>Bytes of a block: a power of two from 512 to 64 KiB.</summary>
    public required int BlockLength { get; init; }

    /// <summary>Blocks.</summary>
    public required long Blocks { get; init; }

    /// <summary>A CD, or another disk that is only read.</summary>
    public required bool IsCd { get; init; }

    /// <summary>It cannot be written.</summary>
    public bool IsReadOnly { get; init; }

    /// <summary>Writes can be forced to disk one by one.</summary>
    public bool HasFua { get; init; }

    /// <summary>It has a cache that flushes are for.</summary>
    public bool HasWriteCache { get; init; }

    /// <summary>It knows which blocks take no space.</summary>
    public bool IsThin { get; init; }

    /// <summary>Those read as zeroes.</summary>
    public bool ReadsZero { get; init; }

    /// <summary>UNMAP is there.</summary>
    public bool CanUnmap { get; init; }

    /// <summary>WRITE SAME(16) may unmap.</summary>
    public bool CanWriteSameUnmap { get; init; }

    /// <summary>Most blocks of a read or write; 0: no limit is told.</summary>
    public uint MaxTransfer { get; init; }

    /// <summary>Most blocks of an UNMAP; 0: no limit is told.</summary>
    public uint MaxUnmap { get; init; }

    /// <summary>Most blocks of a WRITE SAME; 0: no limit is told.</summary>
    public ulong MaxWriteSame { get; init; }

    /// <summary>Maker and model, for `info`.</summary>
    public string Model { get; init; } = "";

    /// <summary>Bytes.</summary>
    public long Length => Blocks * BlockLength;

    /// <summary>True where a block's address needs the long commands.</summary>
    public bool IsLarge => Blocks > ScsiLayout.MaxShortAddress;
}

/// <summary>Asks a unit what it is. Every answer is checked, and whatever is optional may be missing.</summary>
/// <param name="session">A session that nobody else uses yet.</param>
/// <param name="clock">For pauses.</param>
/// <param name="patience">How long a unit may be busy.</param>
internal sealed class IscsiUnitInspector(IscsiSession session, TimeProvider clock, TimeSpan patience)
{
    /// <summary>Enough for every page that is read.</summary>
    private const int AnswerLength = 192;

    /// <summary>Asks everything.</summary>
    public async Task<IscsiUnit> InspectAsync(CancellationToken cancellationToken)
    {
        byte[] inquiry = await AskAsync(ScsiCommand.Inquiry(null, AnswerLength), "does not say what it is", cancellationToken)
            .ConfigureAwait(false);
        if (inquiry.Length < 5)
        {
            throw Invalid("its answer about itself is too short", $"{inquiry.Length} bytes", "at least 5");
        }

        int type = inquiry[0] & 0x1F;
        if (inquiry[0] >> 5 != 0 || type == 0x1F)
        {
            throw new BlockException(BlockErrorKind.NotFound, "the target has no such logical unit")
            {
                Hint = "The number after the name of the target is the unit's (LUN); iscsi-ls -s lists them.",
            };
        }

        bool isCd = type is ScsiLayout.CdType or ScsiLayout.OpticalType;
        if (!isCd && type is not (ScsiLayout.DiskType or ScsiLayout.ReducedDiskType))
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the logical unit is neither a disk nor a CD")
            {
                Found = $"SCSI type {type}",
            };
        }

        await AskAsync(ScsiCommand.TestUnitReady, "is not ready", cancellationToken).ConfigureAwait(false);
        IscsiUnit unit = await AskSizeAsync(isCd, cancellationToken).ConfigureAwait(false);
        unit = unit with { Model = ModelOf(inquiry) };
        return isCd ? unit with { IsReadOnly = true } : await AskLimitsAsync(unit, cancellationToken).ConfigureAwait(false);
    }

    private static BlockException Invalid(string what, string? found = null, string? expected = null) =>
        new(BlockErrorKind.InvalidData, $"the logical unit cannot be used: {what}") { Found = found, Expected = expected };

    private static string ModelOf(byte[] inquiry)
    {
        var text = new StringBuilder();
        foreach (byte b in inquiry.AsSpan(Math.Min(8, inquiry.Length), Math.Clamp(inquiry.Length - 8, 0, 24)))
        {
            text.Append(b is >= 0x20 and < 0x7F ? (char)b : ' ');
        }

        return string.Join(' ', text.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries));
    }

    private static T? As<T>(byte[]? answer)
        where T : unmanaged
    {
        if (answer is null)
        {
            return null;
        }

        // A shorter page is an older one: what it lacks counts as zero.
        Span<byte> whole = stackalloc byte[Marshal.SizeOf<T>()];
        whole.Clear();
        answer.AsSpan(0, Math.Min(answer.Length, whole.Length)).CopyTo(whole);
        return MemoryMarshal.Read<T>(whole);
    }

    /// <summary>The long question first; drives for CDs, and old disks, know only the short one.</summary>
    private async Task<IscsiUnit> AskSizeAsync(bool isCd, CancellationToken cancellationToken)
    {
        byte[]? answer = await TryAskAsync(ScsiCommand.ReadCapacity16(32), 32, cancellationToken).ConfigureAwait(false);
        if (answer is { Length: >= 12 })
        {
            ScsiCapacity16 large = As<ScsiCapacity16>(answer)!.Value;
            return Check(large.LastBlock, large.BlockLength, isCd) with
            {
                IsThin = (large.Provisioning & 0x8000) != 0,
                ReadsZero = (large.Provisioning & 0x4000) != 0,
            };
        }

        answer = await AskAsync(ScsiCommand.ReadCapacity10, "does not tell its size", cancellationToken, 8)
            .ConfigureAwait(false);
        if (answer.Length < 8)
        {
            throw Invalid("its answer about its size is too short", $"{answer.Length} bytes", "8");
        }

        ScsiCapacity10 small = As<ScsiCapacity10>(answer)!.Value;
        return small.LastBlock == uint.MaxValue
            ? throw Invalid("it is too large for the only way in which it tells its size")
            : Check(small.LastBlock.Value, small.BlockLength, isCd);
    }

    private static IscsiUnit Check(ulong lastBlock, uint blockLength, bool isCd)
    {
        if (blockLength is < 512 or > 65536 || !System.Numerics.BitOperations.IsPow2(blockLength))
        {
            throw Invalid("its blocks have an odd size", $"{blockLength} bytes", "a power of two from 512 to 65536");
        }

        return lastBlock < (ulong)(long.MaxValue / blockLength)
            ? new IscsiUnit { BlockLength = (int)blockLength, Blocks = (long)lastBlock + 1, IsCd = isCd }
            : throw Invalid("its size is not possible", $"last block 0x{lastBlock:x}");
    }

    private async Task<IscsiUnit> AskLimitsAsync(IscsiUnit unit, CancellationToken cancellationToken)
    {
        byte[]? mode = await TryAskAsync(
            ScsiCommand.ModeSense(ScsiLayout.AllPages, AnswerLength), AnswerLength, cancellationToken).ConfigureAwait(false);
        byte[]? cache = await TryAskAsync(
            ScsiCommand.ModeSense(ScsiLayout.CachingPage, 64), 64, cancellationToken).ConfigureAwait(false);
        byte[] pages = await TryAskAsync(
            ScsiCommand.Inquiry(ScsiLayout.SupportedPages, AnswerLength), AnswerLength, cancellationToken)
            .ConfigureAwait(false) ?? [];
        ScsiBlockLimits limits = await PageAsync<ScsiBlockLimits>(pages, ScsiLayout.BlockLimitsPage, cancellationToken)
            .ConfigureAwait(false) ?? default;
        ScsiProvisioning provisioning = await PageAsync<ScsiProvisioning>(
            pages, ScsiLayout.ProvisioningPage, cancellationToken).ConfigureAwait(false) ?? default;
        byte flags = (mode ?? cache) is { Length: > 2 } header ? header[2] : (byte)0;
        return unit with
        {
            IsReadOnly = (flags & 0x80) != 0,
            HasFua = (flags & 0x10) != 0,
            HasWriteCache = CacheIsOn(cache),
            MaxTransfer = limits.MaxTransfer,
            MaxUnmap = limits.MaxUnmapBlocks,
            MaxWriteSame = limits.MaxWriteSame,
            CanUnmap = unit.IsThin && (provisioning.Flags & 0x80) != 0 && limits.MaxUnmapBlocks > 0
                && limits.MaxUnmapDescriptors > 0,
            CanWriteSameUnmap = unit.IsThin && (provisioning.Flags & 0x40) != 0,
        };
    }

    /// <summary>
    /// The caching page behind the header and its block descriptors; a unit that does not say may have a cache.
    /// </summary>
    private static bool CacheIsOn(byte[]? answer)
    {
        var reader = new SpanReader(answer);
        return !reader.TryTake(4, out ReadOnlySpan<byte> header)
            || !reader.TryTake(header[3], out _)
            || !reader.TryTake(3, out ReadOnlySpan<byte> page)
            || (page[0] & 0x3F) != ScsiLayout.CachingPage
            || (page[2] & 0x04) != 0;
    }

    private async Task<T?> PageAsync<T>(byte[] pages, byte page, CancellationToken cancellationToken)
        where T : unmanaged
    {
        if (pages.Length < 4 || !pages.AsSpan(4, Math.Clamp(pages[3], 0, pages.Length - 4)).Contains(page))
        {
            return null;
        }

        byte[]? answer = await TryAskAsync(ScsiCommand.Inquiry(page, AnswerLength), AnswerLength, cancellationToken)
            .ConfigureAwait(false);
        return answer is { Length: >= 4 } && answer[1] == page ? As<T>(answer) : null;
    }

    private async Task<byte[]> AskAsync(
        ScsiCommand command, string failure, CancellationToken cancellationToken, int length = AnswerLength)
    {
        (IscsiOutcome outcome, byte[] answer) = await RunAsync(command, length, cancellationToken).ConfigureAwait(false);
        return outcome.Status == 0 ? answer : throw IscsiErrors.Refused(failure, outcome, null);
    }

    /// <summary>Null: the unit does not know the question.</summary>
    private async Task<byte[]?> TryAskAsync(ScsiCommand command, int length, CancellationToken cancellationToken)
    {
        (IscsiOutcome outcome, byte[] answer) = await RunAsync(command, length, cancellationToken).ConfigureAwait(false);
        return outcome.Status == 0 ? answer
            : outcome.Status == 2 && outcome.Sense.Key == ScsiSense.IllegalRequest ? null
            : throw IscsiErrors.Refused("does not describe the logical unit", outcome, null);
    }

    private async Task<(IscsiOutcome Outcome, byte[] Answer)> RunAsync(
        ScsiCommand command, int length, CancellationToken cancellationToken)
    {
        var again = new ScsiPatience(clock);
        var answer = new byte[command.Direction == Interop.ScsiDirection.In ? length : 0];
        while (true)
        {
            IscsiOutcome outcome = await session.ExecuteAsync(command, answer, default, false, cancellationToken)
                .ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            if (outcome.Kind != IscsiOutcomeKind.Answered)
            {
                throw await session.Ended.ConfigureAwait(false);
            }

            // A reset that is told right after the login is no news: nothing was written yet.
            ScsiVerdict verdict = ScsiPatience.Judge(outcome);
            bool isNews = outcome.Sense.Code == ScsiSense.MediumChanged;
            if ((verdict is ScsiVerdict.Done or ScsiVerdict.Refused && !isNews)
                || !again.MayTryAgain(patience, out TimeSpan pause))
            {
                return (outcome, answer[..Math.Min(outcome.Count, answer.Length)]);
            }

            await Task.Delay(pause, clock, cancellationToken).ConfigureAwait(false);
        }
    }
}
