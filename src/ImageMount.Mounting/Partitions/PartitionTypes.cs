using System.Globalization;

namespace ImageMount.Mounting.Partitions;

/// <summary>Names of the partition types that people meet. Unknown types are shown by number alone.</summary>
internal static class PartitionTypes
{
    /// <summary>Id and name of an MBR type byte.</summary>
    public static (string Id, string? Name) Mbr(byte type) =>
        (string.Create(CultureInfo.InvariantCulture, $"0x{type:x2}"), type switch
        {
            0x01 => "FAT12",
            0x04 or 0x06 or 0x0E => "FAT16",
            0x07 => "NTFS/exFAT",
            0x0B or 0x0C => "FAT32",
            0x11 or 0x14 or 0x16 or 0x17 or 0x1B or 0x1C or 0x1E => "hidden FAT/NTFS",
            0x27 => "Windows recovery",
            0x42 => "Windows dynamic disk",
            0x82 => "Linux swap",
            0x83 => "Linux",
            0x8E => "Linux LVM",
            0xA5 => "FreeBSD",
            0xA6 => "OpenBSD",
            0xA8 or 0xAF => "Apple",
            0xA9 => "NetBSD",
            0xBE or 0xBF => "Solaris",
            0xEE => "GPT protective",
            0xEF => "EFI system",
            0xFB or 0xFC => "VMware",
            0xFD => "Linux RAID",
            _ => null,
        });

    /// <summary>Id and name of a GPT type GUID.</summary>
    public static (string Id, string? Name) Gpt(Guid type)
    {
        string id = type.ToString("D", CultureInfo.InvariantCulture);
        return (id, id switch
        {
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
            "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
            "024dee41-33e7-11d3-9d69-0008c781f39f" => "MBR scheme",
            "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
            "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
            "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
            "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3" => "Windows LDM metadata",
            "af9b60a0-1431-4f62-bc68-3311714a69ad" => "Windows LDM data",
            "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux",
            "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
            "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
            "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
            "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
            "b921b045-1df0-41c3-af44-4c6f280d3fae" => "Linux root (arm64)",
            "933ac7e1-2eb4-4f13-b844-0e14e2aef915" => "Linux home",
            "ca7d7ccb-63ed-4c53-861c-1742536059cc" => "Linux LUKS",
            "516e7cb4-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD",
            "516e7cb6-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD UFS",
            "516e7cba-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD ZFS",
            "48465300-0000-11aa-aa11-00306543ecac" => "Apple HFS+",
            "7c3457ef-0000-11aa-aa11-00306543ecac" => "Apple APFS",
            "6a898cc3-1dd2-11b2-99a6-080020736631" => "ZFS",
            "aa31e02a-400f-11db-9590-000c2911d1b8" => "VMware VMFS",
            _ => null,
        });
    }
}
