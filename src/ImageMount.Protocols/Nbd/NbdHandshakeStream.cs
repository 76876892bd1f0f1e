using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>A reply to an option.</summary>
/// <param name="Type">Which.</param>
/// <param name="Data">What it carries.</param>
internal readonly record struct NbdOptionAnswer(NbdOptionReply Type, byte[] Data)
{
    /// <summary>True for an error.</summary>
    public bool IsError => ((uint)Type & 0x80000000) != 0;

    /// <summary>The server's words in an error, for messages: "" or ": no such export".</summary>
    public string Words => PeerText.Clean(Data) is { } text ? $": {text}" : "";
}

/// <summary>
/// Sends and receives the pieces of a handshake. Whatever goes wrong is a BlockException: the connection broke, or the
/// server does not speak NBD.
/// </summary>
/// <param name="stream">The connection; replaced when TLS begins.</param>
/// <param name="peer">What messages call the server.</param>
internal sealed class NbdHandshakeStream(Stream stream, string peer)
{
    private const int MaxReply = 64 << 10;

    /// <summary>The connection.</summary>
    public Stream Stream { get; set; } = stream;

    /// <summary>What messages call the server.</summary>
    public string Peer => peer;

    /// <summary>Reads a structure.</summary>
    public async Task<T> ReadAsync<T>(CancellationToken cancellationToken)
        where T : unmanaged
    {
        byte[] bytes = await ReadAsync(Unsafe.SizeOf<T>(), cancellationToken).ConfigureAwait(false);
        return MemoryMarshal.Read<T>(bytes);
    }

    /// <summary>Reads a number of bytes, which the caller has limited.</summary>
    public async Task<byte[]> ReadAsync(int count, CancellationToken cancellationToken)
    {
        var bytes = new byte[count];
        try
        {
            await Stream.ReadExactlyAsync(bytes, cancellationToken).ConfigureAwait(false);
            return bytes;
        }
        catch (EndOfStreamException)
        {
            throw NetworkErrors.Closed(peer);
        }
        catch (Exception e) when (NetworkErrors.IsNetwork(e))
        {
            throw NetworkErrors.Broken(e, peer);
        }
    }

    /// <summary>Sends bytes.</summary>
    public async Task WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            await Stream.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
            await Stream.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (NetworkErrors.IsNetwork(e))
        {
            throw NetworkErrors.Broken(e, peer);
        }
    }

    /// <summary>Sends an option.</summary>
    public Task SendOptionAsync(NbdOption option, ReadOnlySpan<byte> data, CancellationToken cancellationToken)
    {
        var message = new byte[Unsafe.SizeOf<NbdOptionHeader>() + data.Length];
        var header = new NbdOptionHeader(NbdLayout.OptionMagic, (uint)option, (uint)data.Length);
        MemoryMarshal.Write(message, in header);
        data.CopyTo(message.AsSpan(Unsafe.SizeOf<NbdOptionHeader>()));
        return WriteAsync(message, cancellationToken);
    }

    /// <summary>Receives one reply to an option; there may be several, the last is an ACK or an error.</summary>
    public async Task<NbdOptionAnswer> ReadAnswerAsync(NbdOption option, CancellationToken cancellationToken)
    {
        NbdOptionReplyHeader header = await ReadAsync<NbdOptionReplyHeader>(cancellationToken).ConfigureAwait(false);
        if (header.Magic != NbdLayout.OptionReplyMagic)
        {
            throw NbdErrors.Protocol("a reply to an option does not begin with its magic", $"0x{header.Magic.Value:x16}");
        }

        if (header.Option != (uint)option)
        {
            throw NbdErrors.Protocol(
                "a reply is for another option", $"{header.Option.Value}", $"{(uint)option}");
        }

        if (header.Length > MaxReply)
        {
            throw BlockException.Limit("a reply of the NBD server to an option is too long", header.Length, MaxReply);
        }

        byte[] data = await ReadAsync((int)header.Length.Value, cancellationToken).ConfigureAwait(false);
        return new NbdOptionAnswer((NbdOptionReply)header.Type.Value, data);
    }

    /// <summary>A text with its length before it.</summary>
    public static byte[] WithLength(string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        var bytes = new byte[4 + utf8.Length];
        Be32 length = (uint)utf8.Length;
        MemoryMarshal.Write(bytes, in length);
        utf8.CopyTo(bytes, 4);
        return bytes;
    }
}
