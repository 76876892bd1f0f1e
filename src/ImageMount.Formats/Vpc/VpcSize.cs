using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Formats.Vpc;

/// <summary>Which of the footer's two sizes is the disk's.</summary>
public enum VpcSizeCalculation
{
    /// <summary>As the program that made the image means it.</summary>
    Auto,

    /// <summary>Cylinders × heads × sectors, as Virtual PC counts.</summary>
    Chs,

    /// <summary>The current size, as Hyper-V counts.</summary>
    [OptionValue("current_size")]
    CurrentSize,
}

/// <summary>
/// The size of a disk. Virtual PC rounds to its geometry, Hyper-V and its friends use the current size; the field
/// "Creator Application" tells who is who. QEMU follows the same table, so that a disk has one size everywhere.
/// </summary>
internal static class VpcSize
{
    private static readonly uint[] s_currentSizeCreators =
    [
        0x77696e20, // "win ": Hyper-V
        0x71656d32, // "qem2": QEMU with force_size
        0x64327620, // "d2v ": Disk2vhd
        0x74617000, // "tap": XenServer
        0x43545853, // "CTXS": XenConverter
        0x77610000, // "wa": Azure
    ];

    /// <summary>The size of a disk, bytes.</summary>
    public static long Of(VpcFooter footer, VpcSizeCalculation how)
    {
        bool useGeometry = how switch
        {
            VpcSizeCalculation.Chs => true,
            VpcSizeCalculation.CurrentSize => false,
            _ => !s_currentSizeCreators.Contains(footer.Creator),
        };

        // The largest geometry only says that the disk is larger than any geometry.
        long sectors = useGeometry && footer.GeometrySectors != VpcLayout.MaxGeometry
            ? footer.GeometrySectors
            : (long)Math.Min(footer.CurrentSize / VpcLayout.SectorSize, long.MaxValue / VpcLayout.SectorSize);
        return sectors <= VpcLayout.MaxSectors || footer.Type == VpcType.Fixed
            ? sectors * VpcLayout.SectorSize
            : throw BlockException.Limit(
                "the disk is too large", sectors * VpcLayout.SectorSize, VpcLayout.MaxSectors * VpcLayout.SectorSize);
    }

    /// <summary>The geometry for so many sectors ("Appendix: CHS Calculation").</summary>
    public static (int Cylinders, int Heads, int SectorsPerTrack) GeometryOf(long sectors)
    {
        sectors = Math.Min(sectors, VpcLayout.MaxGeometry);
        if (sectors >= 65535L * 16 * 63)
        {
            return ((int)(sectors / 255 / 16), 16, 255);
        }

        int perTrack = 17;
        long tracks = sectors / perTrack;
        long heads = Math.Max(4, (tracks + 1023) / 1024);
        if (tracks >= heads * 1024 || heads > 16)
        {
            (perTrack, heads) = (31, 16);
            tracks = sectors / perTrack;
        }

        if (tracks >= heads * 1024)
        {
            (perTrack, heads) = (63, 16);
            tracks = sectors / perTrack;
        }

        return ((int)(tracks / heads), (int)heads, perTrack);
    }

    /// <summary>The smallest geometry that holds so many sectors: what a program that counts in CHS can show.</summary>
    public static (int Cylinders, int Heads, int SectorsPerTrack) GeometryFor(long sectors)
    {
        for (long more = 0; more < 65536; more++)
        {
            (int cylinders, int heads, int perTrack) = GeometryOf(sectors + more);
            if ((long)cylinders * heads * perTrack >= Math.Min(sectors, VpcLayout.MaxGeometry))
            {
                return (cylinders, heads, perTrack);
            }
        }

        return (65535, 16, 255);
    }
}
