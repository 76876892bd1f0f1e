using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;

namespace ImageMount.Formats.Luks;

/// <summary>LUKS versions 1 and 2: probing and opening. See docs/drivers/luks.md.</summary>
public sealed class LuksDriver : BlockDriver<LuksOptions>
{
    /// <inheritdoc/>
    public override string Name => "luks";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Encrypted disks of Linux, LUKS versions 1 and 2.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new LuksCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => LuksHeader.HasMagic(input.Head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, LuksOptions options, CancellationToken cancellationToken)
    {
        BlockNode? detached = context.HasChildOptions("header")
            ? await context.OpenChildAsync("header", null, "raw", writable: true, cancellationToken)
                .ConfigureAwait(false)
            : null;
        LuksArea area = LuksArea.Of(detached ?? context.File);
        LuksHeader header = await LuksHeader.ReadAsync(area, cancellationToken).ConfigureAwait(false);
        if (header.Copies?.Damage is { } damage)
        {
            context.Warn($"{damage}; the other copy is used");
        }

        bool writable = context.Flags.Writable && context.File.CanWrite;
        if (context.Flags.StaysLocked(options.KeySecret))
        {
            return new LuksDevice(context.File, detached, area, header, null, writable);
        }

        Secret passphrase = context.Flags.Secrets.Passphrase(options.KeySecret, context.NodeName);
        LuksKeys keys = await LuksUnlock.OpenAsync(area, header, passphrase, options.KeySlot, cancellationToken)
            .ConfigureAwait(false);
        try
        {
            return new LuksDevice(context.File, detached, area, header, keys, writable);
        }
        catch
        {
            keys.Dispose();
            throw;
        }
    }
}
