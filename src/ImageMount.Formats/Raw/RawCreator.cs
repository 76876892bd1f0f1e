using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Raw;

/// <summary>Makes raw disks of zeroes, with or without their space.</summary>
internal sealed class RawCreator : ImageCreator<RawCreateOptions>
{
    private const int Step = 1 << 20;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, RawCreateOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        if (!await file.TryResizeAsync(options.Size, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the file or device cannot have this size")
            {
                Found = $"{file.Length} bytes",
                Expected = $"{options.Size} bytes",
            };
        }

        switch (options.Preallocation)
        {
            case RawPreallocation.Falloc when options.Size > 0
                && !await file.TryAllocateAsync(0, options.Size, cancellationToken).ConfigureAwait(false):
                throw BlockException.Unsupported(
                    "the host cannot reserve space for this file", "Use preallocation=full, which writes zeroes.");
            case RawPreallocation.Full:
                await FillAsync(file, options.Size, cancellationToken).ConfigureAwait(false);
                break;
        }

        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask FillAsync(BlockNode file, long size, CancellationToken cancellationToken)
    {
        using BufferLease zeroes = BufferPool.Shared.Rent(Step);
        zeroes.Span.Clear();
        for (long at = 0; at < size; at += Step)
        {
            int count = (int)Math.Min(Step, size - at);
            await file.WriteAsync(at, zeroes.Memory[..count], WriteFlags.None, cancellationToken).ConfigureAwait(false);
        }
    }
}
