using System.Reflection;

namespace ImageMount.TestSupport;

/// <summary>
/// A registry with every driver that the drivers' assemblies contain, found by reflection: a driver that somebody
/// forgets to list is still tested (and the composition root can be compared with this).
/// </summary>
public static class TestGraph
{
    private static readonly string[] s_assemblies =
        ["ImageMount.Formats", "ImageMount.Protocols", "ImageMount.Filters", "ImageMount.VirtualFat"];

    /// <summary>All drivers.</summary>
    public static DriverRegistry Registry { get; } = new(FindDrivers());

    /// <summary>Opens sources and options through <see cref="Registry"/>.</summary>
    public static GraphOpener Opener { get; } = new(Registry);

    /// <summary>Parses sources.</summary>
    public static SourceParser Parser { get; } = new(Registry);

    /// <summary>For reading.</summary>
    public static OpenFlags ReadOnly { get; } = new();

    /// <summary>For reading and writing.</summary>
    public static OpenFlags Writable { get; } = new() { Writable = true };

    /// <summary>Opens a source as a user would write it.</summary>
    public static ValueTask<Graph> OpenAsync(string source, OpenFlags? flags = null) =>
        Opener.OpenAsync(source, flags ?? ReadOnly);

    /// <summary>Opens a source given as options ("driver=qcow2,file.filename=…").</summary>
    public static ValueTask<Graph> OpenOptionsAsync(string imageOptions, OpenFlags? flags = null) =>
        Opener.OpenAsync(Parser.ParseImageOptions(imageOptions), flags ?? ReadOnly);

    /// <summary>Options for a file on this host, its format probed.</summary>
    public static OptionMap ForFile(string path, string? format = null)
    {
        OptionMap map = Parser.Parse(path);
        if (format is not null)
        {
            map.Set("driver", format);
        }

        return map;
    }

    private static IEnumerable<BlockDriver> FindDrivers() =>
        from name in s_assemblies
        from type in Assembly.Load(name).GetExportedTypes()
        where type.IsSubclassOf(typeof(BlockDriver)) && !type.IsAbstract
            && type.GetConstructor(Type.EmptyTypes) is not null
        orderby type.FullName
        select (BlockDriver)Activator.CreateInstance(type)!;
}
