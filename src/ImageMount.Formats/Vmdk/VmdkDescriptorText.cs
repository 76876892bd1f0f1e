using System.Globalization;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Vmdk;

/// <summary>Writes the descriptor of a new disk ("The Descriptor File").</summary>
internal static class VmdkDescriptorText
{
    private static readonly string[] s_adapters = ["ide", "lsilogic", "buslogic", "legacyESX"];

    /// <summary>Makes the text.</summary>
    /// <param name="createType">createType.</param>
    /// <param name="extents">Lines of the extent description.</param>
    /// <param name="size">Size of the disk, bytes.</param>
    /// <param name="options">The rest.</param>
    /// <param name="parentCid">Content id of the parent; counts only with a backing file.</param>
    /// <exception cref="BlockException">InvalidArgument: a value cannot stand in a descriptor.</exception>
    public static byte[] Make(
        string createType, IReadOnlyList<string> extents, long size, VmdkCreateOptions options, uint parentCid)
    {
        CheckOptions(options);

        // IDE has a geometry of its own, and ends at 16383 cylinders ("The Disk Database").
        bool ide = options.AdapterType == "ide";
        int heads = ide ? 16 : 255;
        long sectors = size / VmdkLayout.SectorSize;
        long cylinders = Math.Min(sectors / (63L * heads), ide ? 16383 : uint.MaxValue);

        // All ones means "no parent", and some programs read meaning into the value before it too.
        uint cid = (uint)Random.Shared.NextInt64(VmdkLayout.NoParent - 1);
        bool child = options.BackingFile is not null;
        string text = $"""
            # Disk DescriptorFile
            version=1
            encoding="UTF-8"
            CID={cid:x8}
            parentCID={(child ? parentCid : VmdkLayout.NoParent):x8}
            createType="{createType}"
            {(child ? $"parentFileNameHint=\"{options.BackingFile}\"\n" : "")}
            # Extent description
            {string.Join('\n', extents)}

            # The Disk Data Base
            #DDB

            ddb.virtualHWVersion = "{options.HardwareVersion ?? (options.Compat6 ? "6" : "4")}"
            ddb.geometry.cylinders = "{Text(cylinders)}"
            ddb.geometry.heads = "{Text(heads)}"
            ddb.geometry.sectors = "63"
            ddb.adapterType = "{options.AdapterType}"
            ddb.toolsVersion = "{options.ToolsVersion}"

            """;
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return bytes.Length <= VmdkLayout.MaxDescriptorBytes
            ? bytes : throw Wrong("the names are too long for the descriptor");
    }

    /// <summary>A line of the extent description.</summary>
    /// <param name="access">RW or RDONLY.</param>
    /// <param name="size">Guest bytes.</param>
    /// <param name="type">SPARSE or FLAT.</param>
    /// <param name="fileName">File, relative to the descriptor.</param>
    public static string Extent(string access, long size, string type, string fileName)
    {
        CheckQuotable("the name of the image", fileName);
        return $"{access} {Text(size / VmdkLayout.SectorSize)} {type} \"{fileName}\"" + (type == "FLAT" ? " 0" : "");
    }

    private static void CheckOptions(VmdkCreateOptions options)
    {
        if (!s_adapters.Contains(options.AdapterType))
        {
            throw Wrong($"adapter_type '{options.AdapterType}' is not known; it is {string.Join(", ", s_adapters)}");
        }

        if (options is { Compat6: true, HardwareVersion: not null })
        {
            throw Wrong("compat6 and hwversion exclude each other");
        }

        CheckQuotable("hwversion", options.HardwareVersion);
        CheckQuotable("toolsversion", options.ToolsVersion);
        CheckQuotable("backing_file", options.BackingFile);
    }

    /// <summary>The format has no way to quote: such a value would end its line, or begin another.</summary>
    private static void CheckQuotable(string what, string? value)
    {
        if (value is not null && (value.Length == 0 || value.Any(c => c == '"' || char.IsControl(c))))
        {
            throw Wrong($"{what} is empty, or has a character that cannot stand in a descriptor (\" or a control character)");
        }
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
