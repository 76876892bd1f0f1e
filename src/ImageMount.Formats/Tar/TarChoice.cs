using ImageMount.Core.Block;

namespace ImageMount.Formats.Tar;

/// <summary>
/// Which file of an archive is the disk. Named: that one. Else the only one whose name says that it is a disk (of an
/// OVA too, which has a description and checksums besides), else the only file there is.
/// </summary>
internal static class TarChoice
{
    private const int MaxListed = 20;

    private static readonly string[] s_disks =
    [
        ".vmdk", ".qcow2", ".qcow", ".qed", ".vdi", ".vhd", ".vhdx", ".avhd", ".avhdx", ".vpc", ".img", ".raw", ".dd",
        ".dmg", ".hdd", ".hds", ".cloop", ".bochs", ".luks", ".disk", ".dsk", ".ova",
    ];

    /// <summary>Taken when there is no disk.</summary>
    private static readonly string[] s_discs = [".iso", ".tar", ".bin"];

    private static readonly string[] s_compressed = [".gz", ".xz", ".bz2", ".zst"];

    /// <summary>Finds the member, or says which there are.</summary>
    public static TarMember Choose(IReadOnlyList<TarMember> members, string? name)
    {
        TarMember chosen = name is null ? ChooseDisk(members) : ChooseNamed(members, name);
        return chosen.WhyNot is null ? chosen : throw BlockException.Unsupported(
            $"the member '{TarReader.Shown(chosen.Name)}' cannot be opened: {chosen.WhyNot}",
            "Unpack the archive, or pack it again without --sparse.");
    }

    private static TarMember ChooseNamed(IReadOnlyList<TarMember> members, string name)
    {
        string plain = TarReader.Plain(name);
        return members.FirstOrDefault(member => member.Name == plain) ?? throw new BlockException(
            BlockErrorKind.NotFound, $"the archive has no member '{TarReader.Shown(name)}'")
        {
            Hint = $"There are: {List(members)}.",
        };
    }

    private static TarMember ChooseDisk(IReadOnlyList<TarMember> members)
    {
        TarMember[] found = [.. members.Where(member => Has(member.Name, s_disks))];
        if (found.Length == 0)
        {
            found = [.. members.Where(member => Has(member.Name, s_discs))];
        }

        if (found.Length == 0 && members.Count == 1)
        {
            return members[0];
        }

        const string ByName = "Name one with the option member (driver=tar,member=NAME,file.filename=ARCHIVE); ";
        return found.Length switch
        {
            1 => found[0],
            0 => throw new BlockException(
                BlockErrorKind.NotFound, "the archive has no file that looks like a disk image")
            {
                Hint = members.Count == 0 ? "It has no files at all. -f raw shows the bytes of the archive itself."
                    : $"{ByName}there are: {List(members)}. -f raw shows the bytes of the archive itself.",
            },
            _ => throw new BlockException(BlockErrorKind.InvalidArgument, "the archive has several disk images")
            {
                Hint = $"{ByName}there are: {List(found)}.",
            },
        };
    }

    private static bool Has(string name, string[] endings)
    {
        foreach (string ending in s_compressed)
        {
            if (name.EndsWith(ending, StringComparison.OrdinalIgnoreCase))
            {
                name = name[..^ending.Length];
                break;
            }
        }

        return endings.Any(ending => name.EndsWith(ending, StringComparison.OrdinalIgnoreCase));
    }

    private static string List(IReadOnlyCollection<TarMember> members) =>
        string.Join(", ", members.Take(MaxListed).Select(member => $"'{TarReader.Shown(member.Name)}'"))
        + (members.Count > MaxListed ? $" and {members.Count - MaxListed} more" : "");
}
