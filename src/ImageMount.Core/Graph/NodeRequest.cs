using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>One node that is to be opened.</summary>
internal sealed record NodeRequest
{
    /// <summary>What is known of it; not changed.</summary>
    public required OptionMap Options { get; init; }

    /// <summary>How to open it.</summary>
    public required OpenFlags Flags { get; init; }

    /// <summary>The image that uses it, or null at the top.</summary>
    public Frame? Referrer { get; init; }

    /// <summary>What stands before its keys in messages: "", "file.", "backing.file.".</summary>
    public string Prefix { get; init; } = "";

    /// <summary>True when the user named it, false when an image did.</summary>
    public bool IsTyped { get; init; } = true;

    /// <summary>
    /// True below a format, where without "driver" there are raw bytes; false where a format is probed.
    /// </summary>
    public bool IsProtocolPlace { get; init; }

    /// <summary>True for a file that is a part of a disk; counted apart from other nodes.</summary>
    public bool IsExtent { get; init; }

    /// <summary>The "file" child, when it is open already.</summary>
    public OpenedNode? File { get; init; }

    /// <summary>What messages call the node that is being opened before it has a name.</summary>
    public string Subject(BlockDriver driver) =>
        Prefix.Length == 0 ? $"driver '{driver.Name}'" : $"driver '{driver.Name}' ({Prefix.TrimEnd('.')})";
}
