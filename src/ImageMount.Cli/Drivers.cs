using ImageMount.Core.Graph;
using ImageMount.Filters.Delay;
using ImageMount.Filters.Fault;
using ImageMount.Filters.Overlay;
using ImageMount.Filters.Window;
using ImageMount.Formats.Bochs;
using ImageMount.Formats.Cloop;
using ImageMount.Formats.Compressed.Bzip2;
using ImageMount.Formats.Compressed.Gzip;
using ImageMount.Formats.Compressed.Xz;
using ImageMount.Formats.Compressed.Zstd;
using ImageMount.Formats.Dmg;
using ImageMount.Formats.EncrCdsa;
using ImageMount.Formats.Luks;
using ImageMount.Formats.Parallels;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Qcow;
using ImageMount.Formats.Qed;
using ImageMount.Formats.Raw;
using ImageMount.Formats.Split;
using ImageMount.Formats.Tar;
using ImageMount.Formats.Vdi;
using ImageMount.Formats.Vhdx;
using ImageMount.Formats.Vmdk;
using ImageMount.Formats.Vpc;
using ImageMount.Protocols.Files;
using ImageMount.Protocols.Ftp;
using ImageMount.Protocols.Gluster;
using ImageMount.Protocols.Http;
using ImageMount.Protocols.Iscsi;
using ImageMount.Protocols.Nbd;
using ImageMount.Protocols.Ssh;
using ImageMount.VirtualFat;

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
        new QcowDriver(),
        new QedDriver(),
        new VmdkDriver(),
        new DmgDriver(),
        new EncrCdsaDriver(),
        new CloopDriver(),
        new BochsDriver(),
        new VdiDriver(),
        new VpcDriver(),
        new ParallelsDriver(),
        new VhdxDriver(),
        new SplitDriver(),
        new LuksDriver(),
        new RawDriver(),

        // Images inside something else.
        new GzipDriver(),
        new XzDriver(),
        new Bzip2Driver(),
        new ZstdDriver(),
        new TarDriver(),

        // Protocols.
        new FileDriver(),
        new FtpDriver(),
        new FtpsDriver(),
        new GlusterDriver(),
        new HttpDriver(),
        new HttpsDriver(),
        new IscsiDriver(),
        new NbdDriver(),
        new SshDriver(),
        new VirtualFatDriver(),

        // Filters.
        new WindowDriver(),
        new OverlayDriver(),
        new FaultDriver(),
        new DelayDriver(),
    ]);
}
