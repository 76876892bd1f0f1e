namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// A file or folder of the host while steps are planned: where it is after the steps so far. Two are equal when they
/// are the same.
/// </summary>
internal sealed class HostObject
{
    /// <summary>What it was before; null for what is new.</summary>
    public FolderNode? Node { get; init; }

    /// <summary>The folder it is in; null for the root.</summary>
    public HostObject? Parent { get; set; }

    /// <summary>Its name there.</summary>
    public required HostPath Name { get; set; }

    /// <summary>What it is.</summary>
    public required HostIdentity Is { get; set; }

    /// <summary>
    /// What the disk shows of it, where somebody else has changed it since: it goes on being a file that was changed, so
    /// that what the guest writes to it later does not take its place. Null where <see cref="Is"/> says it.
    /// </summary>
    public HostIdentity? ShownAs { get; set; }

    /// <summary>It has reached its final place.</summary>
    public bool IsSettled { get; set; }

    /// <summary>Somebody else changed it, so that it stays where it is.</summary>
    public bool IsForeign { get; set; }

    /// <summary>The place from which it had to go, for the case that it has to be kept after all.</summary>
    public HostPath? Home { get; set; }

    /// <summary>Its path.</summary>
    public HostPath Path
    {
        get
        {
            var parts = new Stack<string>();
            for (HostObject at = this; at.Parent is { } parent; at = parent)
            {
                parts.Push(at.Name.Raw);
            }

            return new HostPath(string.Join('/', parts));
        }
    }

    /// <summary>True when it is in a folder, however deep.</summary>
    public bool IsIn(HostObject folder)
    {
        HostObject? at = Parent;
        while (at is not null && at != folder)
        {
            at = at.Parent;
        }

        return at is not null;
    }
}
