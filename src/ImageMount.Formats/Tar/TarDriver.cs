using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Tar;

/// <summary>Driver "tar": a disk image in an archive (.tar, .ova), read-only, where it lies.</summary>
public sealed class TarDriver : BlockDriver<TarOptions>
{
    /// <inheritdoc/>
    public override string Name => "tar";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "A file in a tar archive or an OVA, read-only.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <summary>The checksum of the header must be right; the oldest archives have no magic besides.</summary>
    public override int Probe(in ProbeInput input)
    {
        ReadOnlySpan<byte> head = input.Head;
        if (head.Length < TarLayout.BlockSize || head[TarLayout.NameAt] == 0
            || !TarHeader.IsHeader(head[..TarLayout.BlockSize]))
        {
            return 0;
        }

        return head[TarLayout.MagicAt..].StartsWith(TarLayout.Magic) ? 80 : 40;
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, TarOptions options, CancellationToken cancellationToken)
    {
        IReadOnlyList<TarMember> members = await new TarReader(context.File).ReadAsync(cancellationToken)
            .ConfigureAwait(false);
        TarMember chosen = TarChoice.Choose(members, options.Member is { Length: > 0 } name ? name : null);
        return new TarDevice(context.File, chosen, members.Count);
    }
}
