using ImageMount.Core.Options;

namespace ImageMount.Formats.Raw;

/// <summary>What a new raw disk is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record RawCreateOptions
{
    /// <summary>Size, bytes.</summary>
    [Option("size", "Size of the disk.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Whether space is taken at once.</summary>
    [Option("preallocation", "Take the space at once: off, falloc (reserve it), full (write zeroes).")]
    public RawPreallocation Preallocation { get; init; }
}

/// <summary>When the space of a raw disk is taken from the host.</summary>
public enum RawPreallocation
{
    /// <summary>When it is written: the file is a hole.</summary>
    Off,

    /// <summary>At once, reserved by the host's file system.</summary>
    Falloc,

    /// <summary>At once, by writing zeroes.</summary>
    Full,
}
