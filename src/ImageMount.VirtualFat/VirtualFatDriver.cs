using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Synthesis;

namespace ImageMount.VirtualFat;

/// <summary>Shows a folder of this host as a disk with a FAT12, FAT16 or FAT32 volume.</summary>
public sealed class VirtualFatDriver : BlockDriver<VirtualFatOptions>
{
    private const string Scheme = "fat";

    /// <inheritdoc/>
    public override string Name => "vvfat";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "A folder of this host as a disk with a FAT12, FAT16 or FAT32 volume.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => [Scheme];

    /// <inheritdoc/>
    public override bool ShowsPlainDisk => true;

    /// <inheritdoc/>
    public override string? Locate(object options) => ((VirtualFatOptions)options).Dir;

    /// <summary>"fat:[floppy:][rw:][12:|16:|32:]DIR"; the words in any order. What follows them is the path.</summary>
    public override OptionMap ParseUri(string uri)
    {
        var options = new OptionMap();
        string rest = uri[(uri.IndexOf(':') + 1)..];
        while (rest.IndexOf(':') is > 0 and int colon)
        {
            (string Key, string Value)? word = rest[..colon] switch
            {
                "floppy" => ("floppy", "on"),
                "rw" => ("rw", "on"),
                "12" or "16" or "32" => ("fat-type", rest[..colon]),
                _ => null,
            };
            if (word is not { } known)
            {
                break;
            }

            if (options.Contains(known.Key))
            {
                throw new BlockException(BlockErrorKind.InvalidArgument, $"'{uri}' says '{known.Key}' twice")
                {
                    Expected = "fat:[floppy:][rw:][12:|16:|32:]DIR",
                    Hint = "A folder of such a name is written with './' before it.",
                };
            }

            options.Set(known.Key, known.Value);
            rest = rest[(colon + 1)..];
        }

        if (rest.Length == 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"'{uri}' does not name a folder")
            {
                Expected = "fat:[floppy:][rw:][12:|16:|32:]DIR",
            };
        }

        options.Set("dir", rest);
        return options;
    }

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VirtualFatOptions options, CancellationToken cancellationToken)
    {
        TimeZoneInfo zone = TimeZoneInfo.Local;
        if (options.Rw && context.Flags.Writable)
        {
            return WritableFolder.OpenAsync(options, zone, context.Warn, cancellationToken);
        }

        if (options.Journal is not null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "'journal' is for a disk that may be written: add rw=on");
        }

        FatSynthesiser disk = OpenDisk(options, zone, context.Warn, cancellationToken);
        return new(new VirtualFatDevice(options, disk, zone, context.Warn));
    }

    /// <summary>Opens the folder and makes its plan.</summary>
    internal static FatSynthesiser OpenDisk(
        VirtualFatOptions options, TimeZoneInfo zone, Action<string> warn, CancellationToken cancellationToken)
    {
        HostFolder host = HostFolder.Open(options.Dir);
        try
        {
            return new FatSynthesiser(host, FatPlanner.Make(host, options, zone, warn, cancellationToken), warn);
        }
        catch
        {
            host.Dispose();
            throw;
        }
    }
}
