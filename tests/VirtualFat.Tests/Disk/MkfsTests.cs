using System.Globalization;
using System.Runtime.InteropServices;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>Our boot sectors and mkfs.fat's for the same geometry, field by field.</summary>
public sealed class MkfsTests
{
    [SkippableTheory]
    [InlineData(FatTypeOption.Fat12, 0, FloppySize.Size1200)]
    [InlineData(FatTypeOption.Fat12, 0, FloppySize.Size1440)]
    [InlineData(FatTypeOption.Fat12, 0, FloppySize.Size2880)]
    [InlineData(FatTypeOption.Fat16, 0, FloppySize.Size2880)]
    [InlineData(FatTypeOption.Fat12, 8)]
    [InlineData(FatTypeOption.Fat16, 40)]
    [InlineData(FatTypeOption.Fat32, 300)]
    [InlineData(FatTypeOption.Fat32, 2 << 20)]
    public void Boot_sectors_agree(FatTypeOption type, int mebibytes, FloppySize? floppySize = null)
    {
        Require.Tool("mkfs.fat");
        bool floppy = floppySize is not null;
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        using TestDisk disk = TestDisk.Open(new VirtualFatOptions
        {
            Dir = root,
            FatType = type,
            Floppy = floppy,
            FloppySize = floppySize,
            Size = floppy ? null : mebibytes * (1L << 20),
        });
        FatGeometry geometry = disk.Geometry;
        string volume = dir.WriteSparse("volume", geometry.VolumeSectors * 512);
        string[] options =
        [
            "-a", "-F", N((int)geometry.Type), "-s", N(geometry.SectorsPerCluster), "-R", N(geometry.ReservedSectors),
            "-f", N(geometry.FatCount), "-i", disk.Plan.Volume.SerialNumber.ToString("x8", CultureInfo.InvariantCulture),
            "-n", "IMGMOUNT", "-g", $"{geometry.Heads}/{geometry.SectorsPerTrack}",
            "-h", N(geometry.PartitionOffset / 512), "-M", $"0x{geometry.Media:x2}",
            "-D", floppy ? "0" : "0x80",
            .. geometry.Type == FatType.Fat32 ? Array.Empty<string>() : ["-r", N(geometry.RootEntries)],
            volume,
        ];
        (int code, string said) = Tool.Run("mkfs.fat", options);
        Assert.True(code == 0, said);

        int fat = (int)(geometry.FatOffset(0) - geometry.PartitionOffset);
        byte[] theirs = ReadStart(volume, Math.Max(32 * 512, fat + 12));
        byte[] ours = disk.Read(geometry.PartitionOffset, 32 * 512);
        if (geometry.Type == FatType.Fat32)
        {
            BootSector32 our = MemoryMarshal.Read<BootSector32>(ours);
            BootSector32 their = MemoryMarshal.Read<BootSector32>(theirs);
            Assert.Equal(Fields(their), Fields(our));
            Assert.Equal(theirs.AsSpan(6 * 512, 90), theirs.AsSpan(0, 90));
            Assert.Equal(ours.AsSpan(6 * 512, 3 * 512), ours.AsSpan(0, 3 * 512));
            FsInfo info = MemoryMarshal.Read<FsInfo>(ours.AsSpan(512));
            FsInfo theirInfo = MemoryMarshal.Read<FsInfo>(theirs.AsSpan(512));
            Assert.Equal(
                ((uint)theirInfo.Lead, (uint)theirInfo.Structure, (uint)theirInfo.Trail, (uint)theirInfo.FreeClusters),
                ((uint)info.Lead, (uint)info.Structure, (uint)info.Trail, (uint)info.FreeClusters));
        }
        else
        {
            Assert.Equal(
                Fields(MemoryMarshal.Read<BootSector16>(theirs)), Fields(MemoryMarshal.Read<BootSector16>(ours)));
        }

        // The FATs are whole: media byte, marks, and for FAT32 the root folder.
        Assert.Equal(
            Masked(theirs.AsSpan(fat, 12), geometry.Type), Masked(disk.Read(geometry.FatOffset(0), 12), geometry.Type));
        int some = (int)Math.Min(geometry.FatSize, 4096);
        Assert.Equal(disk.Read(geometry.FatOffset(0), some), disk.Read(geometry.FatOffset(1), some));
    }

    private static byte[] ReadStart(string path, int count)
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path);
        byte[] bytes = new byte[count];
        RandomAccess.Read(file, bytes, 0);
        return bytes;
    }

    /// <summary>All but jump and name of the maker, which are each program's own.</summary>
    private static List<string> Fields(BootSector16 boot) =>
        [.. Common(boot.Bpb), $"per FAT {boot.Bpb.SectorsPerFat16}", .. Extended(boot.Extended)];

    private static List<string> Fields(BootSector32 boot) =>
    [
        .. Common(boot.Bpb), $"per FAT {boot.SectorsPerFat}", $"flags {boot.FatFlags}", $"version {boot.Version}",
        $"root {boot.RootCluster}", $"info {boot.FsInfoSector}", $"backup {boot.BackupBootSector}",
        .. Extended(boot.Extended),
    ];

    private static IEnumerable<string> Common(BiosParameterBlock bpb) =>
    [
        $"sector {bpb.BytesPerSector}", $"cluster {bpb.SectorsPerCluster}", $"reserved {bpb.ReservedSectors}",
        $"fats {bpb.FatCount}", $"root {bpb.RootEntries}", $"total {bpb.TotalSectors16} {bpb.TotalSectors32}",
        $"media {bpb.Media}", $"track {bpb.SectorsPerTrack}", $"heads {bpb.Heads}", $"hidden {bpb.HiddenSectors}",
    ];

    private static IEnumerable<string> Extended(ExtendedBootRecord record)
    {
        ReadOnlySpan<byte> label = record.Label;
        ReadOnlySpan<byte> type = record.TypeName;
        return
        [
            $"drive {record.DriveNumber}", $"flags {record.Flags}", $"signature {record.Signature}",
            $"id {record.VolumeId}", $"label {Convert.ToHexString(label)}", $"type {Convert.ToHexString(type)}",
        ];
    }

    // mkfs.fat writes the label into the root folder with a chain of its own only for FAT32, as we do; its end marks
    // may be any of eight values.
    private static byte[] Masked(ReadOnlySpan<byte> fat, FatType type)
    {
        byte[] bytes = fat.ToArray();
        if (type == FatType.Fat32)
        {
            bytes[8] |= 7;
        }

        return bytes;
    }

    private static string N(long number) => number.ToString(CultureInfo.InvariantCulture);
}
