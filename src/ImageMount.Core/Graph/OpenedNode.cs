using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>A node of a graph with what the graph knows of it besides.</summary>
/// <param name="Node">The node.</param>
/// <param name="Driver">Its driver.</param>
/// <param name="Options">The bound options, an instance of the driver's record.</param>
/// <param name="File">Its "file" child; null for protocols.</param>
/// <param name="Location">Path or URI of the bytes at the bottom of the "file" children, where known.</param>
/// <param name="Place">Driver and location with links followed, where known: known before anything is opened.</param>
/// <param name="Identity">What the device says it is (<see cref="IHasIdentity"/>), where it does.</param>
internal sealed record OpenedNode(
    BlockNode Node, BlockDriver Driver, object Options, OpenedNode? File, string? Location, string? Place,
    string? Identity)
{
    /// <summary>A mere part of a disk; counted apart from other nodes.</summary>
    public bool IsExtent { get; init; }
}

/// <summary>
/// An image that is being opened, linked to the one that refers to it: where depth is counted, loops are found, and
/// the tree is kept that references must not leave.
/// </summary>
internal sealed class Frame
{
    private Frame(Frame? referrer, bool isTyped)
    {
        Referrer = referrer;
        IsTyped = isTyped;
        Depth = referrer is null ? 1 : referrer.Depth + 1;
    }

    /// <summary>The image above, or null.</summary>
    public Frame? Referrer { get; }

    /// <summary>True when the user named this image, false when another image did.</summary>
    public bool IsTyped { get; }

    /// <summary>1 for the top of the graph; what an image is wrapped in counts too.</summary>
    public int Depth { get; private set; }

    /// <summary>The "file" child once it is open.</summary>
    public OpenedNode? File { get; set; }

    /// <summary>Path or URI of this image, where known.</summary>
    public string? Location => File?.Location;

    /// <summary>
    /// Path or URI of the nearest image above that the user named; its folder is the tree for references.
    /// </summary>
    public string? TreeRoot
    {
        get
        {
            Frame frame = this;
            while (!frame.IsTyped && frame.Referrer is not null)
            {
                frame = frame.Referrer;
            }

            return frame.Location;
        }
    }

    /// <summary>Begins an image below another, or at the top.</summary>
    public static Frame Enter(Frame? referrer, bool isTyped)
    {
        var frame = new Frame(referrer, isTyped);
        frame.CheckDepth($"the chain of images is too long: {frame.Chain("…")}");
        return frame;
    }

    /// <summary>Counts one more wrapper between the bytes and the image.</summary>
    public void Unwrap()
    {
        Depth++;
        CheckDepth("the image is wrapped too many times");
    }

    /// <summary>Refuses bytes that an image in the ancestry is made of.</summary>
    public static void RefuseLoop(Frame? frame, string? place, string? identity, string name)
    {
        for (Frame? at = frame; at is not null; at = at.Referrer)
        {
            if ((place is not null && at.File?.Place == place)
                || (identity is not null && at.File?.Identity == identity))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidData, $"the image refers to itself: {frame!.Chain(name)}");
            }
        }
    }

    private void CheckDepth(string what)
    {
        if (Depth > GraphLimits.MaxDepth)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, what)
            {
                Expected = $"at most {GraphLimits.MaxDepth}",
            };
        }
    }

    /// <summary>The images from the top down to here, for messages.</summary>
    private string Chain(string last)
    {
        var names = new List<string>();
        for (Frame? at = this; at is not null; at = at.Referrer)
        {
            string? name = at.File?.Node.Name;
            if (name is not null && (names.Count == 0 || names[^1] != name))
            {
                names.Add(name);
            }
        }

        var text = new StringBuilder();
        for (int i = names.Count - 1; i >= 0; i--)
        {
            text.Append('\'').Append(names[i]).Append("' → ");
        }

        return text.Append(last == "…" ? last : $"'{last}'").ToString();
    }
}
