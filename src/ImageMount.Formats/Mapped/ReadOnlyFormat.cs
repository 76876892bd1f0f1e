using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Mapped;

/// <summary>What drivers that never write share.</summary>
internal static class ReadOnlyFormat
{
    /// <summary>Refuses to open for writing, and says what to do instead.</summary>
    /// <param name="flags">How the image is to be opened.</param>
    /// <param name="why">The reason, as a whole clause.</param>
    public static void RefuseWriting(OpenFlags flags, string why)
    {
        if (flags.Writable)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, why)
            {
                Hint = "Open it read-only (--read-only), or with a temporary overlay for changes (--snapshot).",
            };
        }
    }
}
