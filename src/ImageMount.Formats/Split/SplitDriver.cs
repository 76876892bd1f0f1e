using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Split;

/// <summary>
/// Raw disks cut into files "name.001", "name.002" …: the user names the first, and the others are found beside it. See
/// docs/drivers/split.md.
/// </summary>
public sealed class SplitDriver : BlockDriver<SplitOptions>
{
    /// <summary>Most parts: each costs two of the graph's nodes.</summary>
    public const int MaxParts = 120;

    /// <summary>Less than any magic: an image that says what it is may just be numbered.</summary>
    private const int Score = 50;

    /// <inheritdoc/>
    public override string Name => "split";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "A raw disk cut into files: name.001, name.002 and so on.";

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) =>
        SplitName.IsFirst(input.FileName) && input.HasSibling(SplitName.Of(input.FileName, 2)) ? Score : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, SplitOptions options, CancellationToken cancellationToken)
    {
        string first = context.FileName;
        bool isNamed = SplitName.IsFirst(first);
        if (!isNamed && !context.HasChildOptions("parts.2"))
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "the file is not called as the first part of a split disk is")
            {
                Found = first,
                Expected = "a name that ends in .001",
                Hint = "Name the other parts yourself: parts.2.file.filename=…",
            };
        }

        var parts = new List<BlockNode> { context.File };
        for (int number = 2; ; number++)
        {
            string role = $"parts.{number}";
            string? reference = isNamed ? SplitName.Of(first, number) : null;
            if (!context.HasChildOptions(role) && (reference is null || !context.Exists(reference)))
            {
                break;
            }

            if (number > MaxParts)
            {
                throw BlockException.Limit("the disk has too many parts", number, MaxParts);
            }

            parts.Add(await context.OpenChildAsync(role, reference, "raw", writable: true, cancellationToken)
                .ConfigureAwait(false) ?? throw new BlockException(
                    BlockErrorKind.InvalidArgument, $"'{role}' cannot be left out: what follows would move"));
        }

        if (isNamed)
        {
            RefuseGap(context, first, parts.Count + 1);
        }

        return new SplitDevice(parts);
    }

    /// <summary>A part behind one that is missing: the disk would end too early, and look sound.</summary>
    private static void RefuseGap(OpenContext context, string first, int missing)
    {
        for (int number = missing + 1; number <= SplitName.MaxNumber; number++)
        {
            if (context.Exists(SplitName.Of(first, number)))
            {
                throw new BlockException(BlockErrorKind.NotFound, "a part of the disk is missing")
                {
                    Expected = SplitName.Of(first, missing),
                    Found = SplitName.Of(first, number),
                };
            }
        }
    }
}
