namespace ImageMount.Core.Tests.Support;

/// <summary>A passing-through format with one mistake, to show that the suites see it.</summary>
internal sealed class FlawedDevice(BlockNode file, Flaw flaw) : BlockDevice
{
    private readonly Dictionary<long, byte[]> _held = [];

    public override long Length => file.Length;

    public override BlockCapabilities Capabilities => BlockCapabilities.Write;

    public override BlockLimits Limits => BlockLimits.Default with { RequestAlignment = 512 };

    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await file.ReadAsync(offset, buffer, cancellationToken);
        for (int at = 0; flaw == Flaw.HoldsBackWhatWasFlushed && at < buffer.Length; at += 512)
        {
            if (_held.TryGetValue(offset + at, out byte[]? sector))
            {
                sector.CopyTo(buffer[at..]);
            }
        }
    }

    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        switch (flaw)
        {
            case Flaw.LosesByteAtUnitEnd when offset <= 8191 && offset + buffer.Length > 8191:
                byte[] changed = buffer.ToArray();
                changed[8191 - offset] ^= 1;
                await file.WriteAsync(offset, changed, flags, cancellationToken);
                break;
            case Flaw.HoldsBackWhatWasFlushed:
                for (int at = 0; at < buffer.Length; at += 512)
                {
                    _held[offset + at] = buffer.Slice(at, Math.Min(512, buffer.Length - at)).ToArray();
                }

                break;
            default:
                await file.WriteAsync(offset, buffer, flags, cancellationToken);
                break;
        }
    }

    public override ValueTask FlushAsync(CancellationToken cancellationToken) =>
        flaw is Flaw.None or Flaw.LosesByteAtUnitEnd ? file.FlushAsync(cancellationToken) : default;

    public override async ValueTask CloseAsync()
    {
        foreach ((long offset, byte[] sector) in _held)
        {
            await file.WriteAsync(offset, sector);
        }

        await file.FlushAsync();
    }
}

public enum Flaw
{
    None,
    IgnoresFlush,
    HoldsBackWhatWasFlushed,
    LosesByteAtUnitEnd,
}

internal sealed record FlawedOptions
{
    [Option("flaw", "Which mistake.")]
    public Flaw Flaw { get; init; }
}

internal sealed class FlawedDriver : BlockDriver<FlawedOptions>
{
    public static GraphOpener Opener { get; } = new(new DriverRegistry([new FlawedDriver()]));

    public override string Name => "flawed";

    public override DriverKind Kind => DriverKind.Format;

    public override string Summary => "Makes a mistake.";

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FlawedOptions options, CancellationToken cancellationToken) =>
        new(new FlawedDevice(context.File, options.Flaw));

    public static ValueTask<ImageMount.Core.Graph.Graph> OpenAsync(BlockNode file, OpenFlags flags, Flaw flaw) =>
        Opener.OpenOverAsync(
            "flawed", file, flags, OptionSyntax.ParsePairs($"flaw={OptionValues.ToKebabCase(flaw.ToString())}"));
}
