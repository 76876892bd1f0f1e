using ImageMount.Core.Graph;
using ImageMount.Filters.Delay;
using ImageMount.Filters.Fault;
using ImageMount.Filters.Overlay;
using ImageMount.Filters.Window;
using ImageMount.Formats.Luks;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Raw;
using ImageMount.Formats.Vmdk;
using ImageMount.Protocols.Files;

namespace ImageMount.Cli;

/// <summary>
/// The composition root: every driver that this program has. A driver that is not listed here does not exist.
/// </summary>
public static class Drivers
{
    /// <summary>The registry; made on first use.</summary>
    public static DriverRegistry Registry { get; } = new(
    [
        // Formats. When two are equally sure of an image, the first wins.
        new Qcow2Driver(),
        new VmdkDriver(),
        new LuksDriver(),
        new RawDriver(),

        // Protocols.
        new FileDriver(),

        // Filters.
        new WindowDriver(),
        new OverlayDriver(),
        new FaultDriver(),
        new DelayDriver(),
    ]);
}
