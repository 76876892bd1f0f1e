using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;

namespace ImageMount.Formats.Luks;

/// <summary>
/// Makes LUKS images. The payload is left as it is: nothing is stored there yet, and it reads as noise until it is
/// written.
/// </summary>
internal sealed class LuksCreator : ImageCreator<LuksCreateOptions>
{
    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, LuksCreateOptions options, CancellationToken cancellationToken)
    {
        if (options.Size % options.SectorSize != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "an encrypted disk consists of whole sectors")
            {
                Found = $"{options.Size} bytes",
                Expected = $"a multiple of {options.SectorSize}",
            };
        }

        Secret passphrase = context.Secrets.NewPassphrase(options.KeySecret, context.FileName);
        LuksNew made = options.Version == 2
            ? LuksNew.MakeV2(options, passphrase)
            : LuksNew.MakeV1(options, passphrase, compact: false);
        BlockNode file = context.File;
        long length = options.Size <= long.MaxValue - made.PayloadOffset
            ? made.PayloadOffset + options.Size
            : throw BlockException.Limit("the disk is too large", options.Size, long.MaxValue - made.PayloadOffset);
        if ((file.Capabilities & BlockCapabilities.Resize) != 0)
        {
            await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false);
        }

        if (file.Length < length)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the file is too small for the image")
            {
                Found = $"0x{file.Length:x}",
                Expected = $"0x{length:x}",
            };
        }

        await made.WriteAsync(LuksArea.Of(file), cancellationToken).ConfigureAwait(false);
    }
}
