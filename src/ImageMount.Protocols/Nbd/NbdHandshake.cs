using System.Numerics;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// From a fresh connection to an export. Old style: the server says all there is. New style, not fixed: EXPORT_NAME, and
/// no other option may be sent. Fixed: STARTTLS if wanted, then extended headers (else structured replies), then the
/// context for block status, then GO (else EXPORT_NAME).
/// </summary>
internal sealed class NbdHandshake
{
    private const int MaxListed = 1000;
    private const int MaxAnswers = 10_000;

    private readonly NbdHandshakeStream _io;
    private readonly string _export;
    private readonly string? _context;
    private readonly Func<Stream, CancellationToken, Task<Stream>>? _startTls;
    private bool _isSecure;

    private NbdHandshake(
        NbdHandshakeStream io, string export, string? context, Func<Stream, CancellationToken, Task<Stream>>? startTls)
    {
        _io = io;
        _export = export;
        _context = context;
        _startTls = startTls;
    }

    /// <summary>Negotiates.</summary>
    /// <param name="io">The connection; its stream is the secure one afterwards, where TLS is wanted.</param>
    /// <param name="export">Name of the export.</param>
    /// <param name="context">Context for block status, or null for none.</param>
    /// <param name="startTls">Makes a connection secure; null for plain text.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<NbdExport> RunAsync(
        NbdHandshakeStream io, string export, string? context,
        Func<Stream, CancellationToken, Task<Stream>>? startTls, CancellationToken cancellationToken)
    {
        if (Encoding.UTF8.GetByteCount(export) > NbdLayout.MaxString)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the name of the export is too long")
            {
                Expected = $"at most {NbdLayout.MaxString} bytes",
            };
        }

        var handshake = new NbdHandshake(io, export, context, startTls);
        NbdExport result = await handshake.RunAsync(cancellationToken).ConfigureAwait(false);
        return result.Size >= 0 ? result : throw NbdErrors.Protocol("the size of the export is not possible");
    }

    private async Task<NbdExport> RunAsync(CancellationToken cancellationToken)
    {
        Be64 magic = await _io.ReadAsync<Be64>(cancellationToken).ConfigureAwait(false);
        if (magic != NbdLayout.ServerMagic)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"{_io.Peer} is not an NBD server")
            {
                Found = $"0x{magic.Value:x16}",
                Expected = "NBDMAGIC",
            };
        }

        Be64 style = await _io.ReadAsync<Be64>(cancellationToken).ConfigureAwait(false);
        return style.Value switch
        {
            NbdLayout.OldStyleMagic => await OldStyleAsync(cancellationToken).ConfigureAwait(false),
            NbdLayout.OptionMagic => await NewStyleAsync(cancellationToken).ConfigureAwait(false),
            _ => throw NbdErrors.Protocol("its greeting is neither old nor new style", $"0x{style.Value:x16}"),
        };
    }

    private async Task<NbdExport> OldStyleAsync(CancellationToken cancellationToken)
    {
        RefuseWithoutTls("it speaks the old style of the protocol");
        Be64 size = await _io.ReadAsync<Be64>(cancellationToken).ConfigureAwait(false);
        Be32 flags = await _io.ReadAsync<Be32>(cancellationToken).ConfigureAwait(false);
        await _io.ReadAsync(NbdLayout.ReservedZeroes, cancellationToken).ConfigureAwait(false);
        if (_export.Length > 0)
        {
            throw new BlockException(
                BlockErrorKind.NotFound, "the server speaks the old style of the protocol, which knows no names of exports")
            {
                Hint = "Leave the name out to get the one export that it has.",
            };
        }

        return new NbdExport { Size = (long)size.Value, Flags = (NbdExportFlags)(ushort)flags.Value, Style = "oldstyle" };
    }

    private async Task<NbdExport> NewStyleAsync(CancellationToken cancellationToken)
    {
        Be16 offered = await _io.ReadAsync<Be16>(cancellationToken).ConfigureAwait(false);
        var flags = (NbdHandshakeFlags)offered.Value & (NbdHandshakeFlags.FixedNewStyle | NbdHandshakeFlags.NoZeroes);
        bool isFixed = (flags & NbdHandshakeFlags.FixedNewStyle) != 0;
        await _io.WriteAsync(new byte[] { 0, 0, 0, (byte)flags }, cancellationToken).ConfigureAwait(false);
        bool hasZeroes = (flags & NbdHandshakeFlags.NoZeroes) == 0;
        if (!isFixed)
        {
            RefuseWithoutTls("it does not speak the fixed newstyle of the protocol");
            return await ExportNameAsync(hasZeroes, "newstyle", cancellationToken).ConfigureAwait(false);
        }

        if (_startTls is not null)
        {
            await StartTlsAsync(cancellationToken).ConfigureAwait(false);
        }

        bool isExtended = await AgreeAsync(NbdOption.ExtendedHeaders, cancellationToken).ConfigureAwait(false);
        bool isStructured = isExtended
            || await AgreeAsync(NbdOption.StructuredReply, cancellationToken).ConfigureAwait(false);
        uint? context = isStructured ? await SetContextAsync(cancellationToken).ConfigureAwait(false) : null;
        NbdExport result = await GoAsync(cancellationToken).ConfigureAwait(false)
            ?? await ExportNameAsync(hasZeroes, "fixed newstyle", cancellationToken).ConfigureAwait(false);
        return result with { IsExtended = isExtended, IsStructured = isStructured, Context = context };
    }

    private async Task StartTlsAsync(CancellationToken cancellationToken)
    {
        await _io.SendOptionAsync(NbdOption.StartTls, [], cancellationToken).ConfigureAwait(false);
        NbdOptionAnswer answer = await _io.ReadAnswerAsync(NbdOption.StartTls, cancellationToken).ConfigureAwait(false);
        if (answer.Type != NbdOptionReply.Ack)
        {
            RefuseWithoutTls($"it does not offer TLS{answer.Words}");
        }

        _io.Stream = await _startTls!(_io.Stream, cancellationToken).ConfigureAwait(false);
        _isSecure = true;
    }

    private void RefuseWithoutTls(string why)
    {
        if (_startTls is not null)
        {
            throw new BlockException(BlockErrorKind.PermissionDenied, $"TLS is asked for, and the server cannot: {why}")
            {
                Hint = "Without TLS ('nbd:' instead of 'nbds:') everybody on the way can read and change the disk.",
            };
        }
    }

    /// <summary>An option that is agreed on or not. A server that wants TLS first says so at the first of these.</summary>
    private async Task<bool> AgreeAsync(NbdOption option, CancellationToken cancellationToken)
    {
        NbdOptionAnswer answer;
        try
        {
            await _io.SendOptionAsync(option, [], cancellationToken).ConfigureAwait(false);
            answer = await _io.ReadAnswerAsync(option, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (_isSecure && e.Kind == BlockErrorKind.IoError)
        {
            // In TLS 1.3 a client hears only after the handshake that the server does not accept it.
            throw new BlockException(
                BlockErrorKind.PermissionDenied, "the server ended the connection after the TLS handshake", e)
            {
                Hint = "It probably asks for a client certificate that it knows: client-cert.pem and client-key.pem in the "
                    + "folder of the TLS credentials.",
            };
        }

        if (answer.Type == NbdOptionReply.TlsRequired)
        {
            throw TlsRequired();
        }

        return answer.Type == NbdOptionReply.Ack ? true
            : answer.IsError ? false
            : throw NbdErrors.Protocol($"option {(uint)option} is answered with {(uint)answer.Type}");
    }

    private static BlockException TlsRequired() => new(BlockErrorKind.PermissionDenied, "the server wants TLS")
    {
        Hint = "Write 'nbds:' instead of 'nbd:', or give tls-creds.",
    };

    private async Task<uint?> SetContextAsync(CancellationToken cancellationToken)
    {
        if (_context is null)
        {
            return null;
        }

        byte[] data = [.. NbdHandshakeStream.WithLength(_export), 0, 0, 0, 1, .. NbdHandshakeStream.WithLength(_context)];
        await _io.SendOptionAsync(NbdOption.SetMetaContext, data, cancellationToken).ConfigureAwait(false);
        uint? found = null;
        for (int i = 0; i < MaxAnswers; i++)
        {
            NbdOptionAnswer answer = await _io.ReadAnswerAsync(NbdOption.SetMetaContext, cancellationToken)
                .ConfigureAwait(false);
            if (answer.Type == NbdOptionReply.Ack)
            {
                return found;
            }

            if (answer.IsError)
            {
                return null; // No export of this name either; GO says so better.
            }

            var reader = new SpanReader(answer.Data);
            if (answer.Type != NbdOptionReply.MetaContext || !reader.TryRead(out Be32 id))
            {
                throw NbdErrors.Protocol($"the context is answered with {(uint)answer.Type}");
            }

            if (Encoding.UTF8.GetString(answer.Data.AsSpan(4)) == _context)
            {
                found = id;
            }
        }

        throw BlockException.Limit("the NBD server has too many contexts", MaxAnswers, MaxAnswers);
    }

    /// <summary>Null when the server does not know GO.</summary>
    private async Task<NbdExport?> GoAsync(CancellationToken cancellationToken)
    {
        byte[] data =
        [
            .. NbdHandshakeStream.WithLength(_export), 0, 2,
            0, (byte)NbdInfo.BlockSize, 0, (byte)NbdInfo.Description,
        ];
        await _io.SendOptionAsync(NbdOption.Go, data, cancellationToken).ConfigureAwait(false);
        NbdExport? export = null;
        var blocks = new NbdExport { Size = 0, Flags = 0, Style = "" };
        for (int i = 0; i < MaxAnswers; i++)
        {
            NbdOptionAnswer answer = await _io.ReadAnswerAsync(NbdOption.Go, cancellationToken).ConfigureAwait(false);
            switch (answer.Type)
            {
                case NbdOptionReply.Ack:
                    return export is null
                        ? throw NbdErrors.Protocol("an export is agreed on without its size")
                        : blocks with { Size = export.Size, Flags = export.Flags, Style = "fixed newstyle" };
                case NbdOptionReply.Info:
                    (export, blocks) = ReadInfo(answer.Data, export, blocks);
                    break;
                case NbdOptionReply.Unsupported:
                    return null;
                default:
                    throw await RefusalAsync(answer, cancellationToken).ConfigureAwait(false);
            }
        }

        throw BlockException.Limit("the NBD server says too much about the export", MaxAnswers, MaxAnswers);
    }

    private static (NbdExport? Export, NbdExport Blocks) ReadInfo(byte[] data, NbdExport? export, NbdExport blocks)
    {
        var reader = new SpanReader(data);
        if (!reader.TryRead(out Be16 kind))
        {
            throw NbdErrors.Protocol("a fact about the export is too short");
        }

        switch ((NbdInfo)kind.Value)
        {
            case NbdInfo.Export:
                if (!reader.TryRead(out Be64 size) || !reader.TryRead(out Be16 flags))
                {
                    throw NbdErrors.Protocol("the size of the export is too short");
                }

                return (blocks with { Size = (long)size.Value, Flags = (NbdExportFlags)flags.Value }, blocks);
            case NbdInfo.BlockSize:
                if (!reader.TryRead(out Be32 min) || !reader.TryRead(out Be32 preferred) || !reader.TryRead(out Be32 max))
                {
                    throw NbdErrors.Protocol("the block sizes of the export are too short");
                }

                return (export, WithBlocks(blocks, min, preferred, max));
            case NbdInfo.Description:
                return (export, blocks with { Description = PeerText.Clean(data.AsSpan(2)) });
            default:
                return (export, blocks);
        }
    }

    private static NbdExport WithBlocks(NbdExport export, uint min, uint preferred, uint max)
    {
        const uint LargestMin = 64 << 10;
        if (!BitOperations.IsPow2(min) || min is 0 or > LargestMin || max < min
            || (max != uint.MaxValue && max % min != 0))
        {
            throw NbdErrors.Protocol(
                "the block sizes of the export are not possible", $"{min}/{preferred}/{max}",
                "a power of two up to 64 KiB as the smallest, and multiples of it");
        }

        return export with
        {
            MinBlock = (int)min,
            PreferredBlock = BitOperations.IsPow2(preferred) && preferred >= min ? (int)Math.Min(preferred, 32 << 20) : 0,
            MaxPayload = (int)Math.Min(max, NbdLayout.DefaultMaxPayload) & -(int)min,
        };
    }

    private async Task<NbdExport> ExportNameAsync(bool hasZeroes, string style, CancellationToken cancellationToken)
    {
        await _io.SendOptionAsync(NbdOption.ExportName, Encoding.UTF8.GetBytes(_export), cancellationToken)
            .ConfigureAwait(false);
        Be64 size;
        try
        {
            size = await _io.ReadAsync<Be64>(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.IoError)
        {
            // The only way in which such a server can say no.
            throw new BlockException(BlockErrorKind.NotFound, $"the server refuses the export '{_export}'", e)
            {
                Hint = "Check its name; the server's log may say more.",
            };
        }

        Be16 flags = await _io.ReadAsync<Be16>(cancellationToken).ConfigureAwait(false);
        if (hasZeroes)
        {
            await _io.ReadAsync(NbdLayout.ReservedZeroes, cancellationToken).ConfigureAwait(false);
        }

        return new NbdExport { Size = (long)size.Value, Flags = (NbdExportFlags)flags.Value, Style = style };
    }

    private async Task<BlockException> RefusalAsync(NbdOptionAnswer answer, CancellationToken cancellationToken)
    {
        switch (answer.Type)
        {
            case NbdOptionReply.TlsRequired:
                return TlsRequired();
            case NbdOptionReply.Policy:
                return new(BlockErrorKind.PermissionDenied, $"the server does not allow the export '{_export}'{answer.Words}");
            case NbdOptionReply.Shutdown:
                return new(BlockErrorKind.IoError, "the server is shutting down");
            case NbdOptionReply.Unknown:
                return new(BlockErrorKind.NotFound, $"the server has no export '{_export}'{answer.Words}")
                {
                    Hint = await ListAsync(cancellationToken).ConfigureAwait(false),
                };
            default:
                return answer.IsError
                    ? new(BlockErrorKind.NotSupported, $"the server refuses the export '{_export}' "
                        + $"(error 0x{(uint)answer.Type:x8}){answer.Words}")
                    : NbdErrors.Protocol($"GO is answered with {(uint)answer.Type}");
        }
    }

    /// <summary>What exports there are, as a sentence; null when the server does not tell.</summary>
    private async Task<string?> ListAsync(CancellationToken cancellationToken)
    {
        const int Shown = 20;
        var names = new List<string>();
        try
        {
            await _io.SendOptionAsync(NbdOption.List, [], cancellationToken).ConfigureAwait(false);
            while (names.Count < MaxListed)
            {
                NbdOptionAnswer answer = await _io.ReadAnswerAsync(NbdOption.List, cancellationToken).ConfigureAwait(false);
                if (answer.Type == NbdOptionReply.Ack)
                {
                    break;
                }

                if (answer.Type != NbdOptionReply.Server || NameIn(answer.Data) is not { } name)
                {
                    return null;
                }

                names.Add($"'{name}'");
            }
        }
        catch (BlockException)
        {
            return null; // Its absence is no failure of its own.
        }

        string more = names.Count > Shown ? $" and {names.Count - Shown} more" : "";
        return names.Count == 0 ? "It has no exports." : $"It has: {string.Join(", ", names.Take(Shown))}{more}.";
    }

    /// <summary>The name in an entry of the list, or null when it is damaged.</summary>
    private static string? NameIn(byte[] entry)
    {
        var reader = new SpanReader(entry);
        return reader.TryRead(out Be32 length) && length <= NbdLayout.MaxString
            && reader.TryTake((int)length.Value, out ReadOnlySpan<byte> name)
                ? PeerText.Clean(name) ?? "" : null;
    }
}
