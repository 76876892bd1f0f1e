using ImageMount.Core.Options;

namespace ImageMount.Formats.Tar;

/// <summary>Options of driver "tar".</summary>
public sealed record TarOptions
{
    /// <summary>Name of the file to show.</summary>
    [Option("member", "Name of the file in the archive; without it, the only disk image in it.")]
    public string? Member { get; init; }
}
