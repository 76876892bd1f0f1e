using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// Opens a file that an image names. When it is not there, the user is told which image wants it, and what to do: whoever
/// moved a disk without its parent has lost nothing yet.
/// </summary>
internal static class ReferredFile
{
    private const string Backing = "backing";

    /// <summary>Opens it; null when the user wants none.</summary>
    /// <param name="context">Who opens files.</param>
    /// <param name="role">"backing", "data-file".</param>
    /// <param name="name">As the image names it; null when only options can.</param>
    /// <param name="driver">Format; null to probe.</param>
    /// <param name="writable">False for parents.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public static async ValueTask<BlockNode?> OpenAsync(
        OpenContext context, string role, string? name, string? driver, bool writable, CancellationToken cancellationToken)
    {
        try
        {
            return await context.OpenChildAsync(role, name, driver, writable, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (IsUnexplained(context, role, e))
        {
            throw Missing(context, role, name, e);
        }
    }

    /// <summary>Opens a file that is a part of the disk (<see cref="OpenContext.OpenExtentAsync"/>).</summary>
    public static async ValueTask<BlockNode?> OpenExtentAsync(
        OpenContext context, string role, string name, bool writable, CancellationToken cancellationToken)
    {
        try
        {
            return await context.OpenExtentAsync(role, name, writable, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (IsUnexplained(context, role, e))
        {
            throw Missing(context, role, name, e);
        }
    }

    /// <summary>What to say when none of the places has the file.</summary>
    /// <param name="context">The image.</param>
    /// <param name="role">"backing", "data-file".</param>
    /// <param name="name">As the image names it, or null.</param>
    /// <param name="cause">What opening it said.</param>
    public static BlockException Missing(OpenContext context, string role, string? name, BlockException cause) =>
        new(BlockErrorKind.NotFound, $"the {role} file of '{context.NodeName}' is missing ({cause.Describe()})", cause)
        {
            Found = name,
            Hint = Hint(role),
        };

    /// <summary>How to name a file, or to do without it.</summary>
    public static string Hint(string role) => $"Name it yourself: {role}.file.filename=…" + (role == Backing
        ? "; or leave it out on purpose: backing= (what is missing reads as zeroes)." : "");

    /// <summary>A file is missing, and neither did the user name it nor has an image further down told of it.</summary>
    private static bool IsUnexplained(OpenContext context, string role, BlockException e) =>
        e is { Kind: BlockErrorKind.NotFound, InnerException: not BlockException } && !context.HasChildOptions(role);
}
