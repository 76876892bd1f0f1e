using ImageMount.Core.Info;

namespace ImageMount.Formats.Luks;

/// <summary>
/// The check of a LUKS header: everything that opening requires (places, sizes, references, checksums), and of LUKS2
/// that both copies of the header are sound and the same age. It needs no key, and says nothing of the payload, which
/// has no structure.
/// </summary>
internal static class LuksCheck
{
    public static async ValueTask<CheckReport> RunAsync(LuksArea area, CancellationToken cancellationToken)
    {
        var report = new CheckReport();
        LuksHeader header = await LuksHeader.ReadAsync(area, cancellationToken).ConfigureAwait(false);
        if (header.Copies?.Damage is { } damage)
        {
            report.Corruption(damage);
        }

        if (!header.Slots.Any(slot => slot.IsActive))
        {
            report.Corruption("no key slot is in use: nothing can unlock the image any more");
        }

        return report;
    }
}
