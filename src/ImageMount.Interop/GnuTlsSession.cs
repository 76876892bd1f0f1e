using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static ImageMount.Interop.GnuTlsLibrary;

namespace ImageMount.Interop;

/// <summary>
/// A TLS session of GnuTLS that never waits: what comes from the peer is fed in, what is to go to the peer is taken out.
/// Safe for one reader and one writer at a time; calls into the library are made one after another.
/// </summary>
public sealed unsafe class GnuTlsSession : IDisposable
{
    private const string Priorities =
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK";

    private readonly Lock _lock = new();
    private readonly ArrayBufferWriter<byte> _output = new();
    private nint _session;
    private nint _credentials;
    private GCHandle _self;
    private byte[] _input = new byte[32 << 10];
    private int _inputStart;
    private int _inputEnd;
    private bool _inputEnded;

    private GnuTlsSession() => _self = GCHandle.Alloc(this, GCHandleType.Weak);

    /// <summary>True when something is to go to the peer.</summary>
    public bool HasOutput
    {
        get
        {
            lock (_lock)
            {
                return _output.WrittenCount > 0;
            }
        }
    }

    /// <summary>A client that proves itself by a key that both sides know.</summary>
    /// <param name="user">Whose key.</param>
    /// <param name="hexKey">The key in hexadecimal digits.</param>
    public static GnuTlsSession CreatePskClient(string user, ReadOnlySpan<byte> hexKey)
    {
        var session = new GnuTlsSession();
        try
        {
            session.Begin(user, hexKey);
            return session;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    /// <summary>Goes on with the handshake. True when it is done; false: more input is needed, or see the error.</summary>
    public bool TryHandshake(out string? error)
    {
        lock (_lock)
        {
            int result = gnutls_handshake(Session);
            bool isDone = result == GNUTLS_E_SUCCESS;
            error = isDone || IsTransient(result) ? null : Describe(result);
            return isDone;
        }
    }

    /// <summary>Decrypts what was fed. -1: more input is needed; 0: the peer has ended the session.</summary>
    public int Receive(Span<byte> buffer, out string? error)
    {
        lock (_lock)
        {
            nint result;
            do
            {
                // SAFETY: used during the call only, with the span's own length.
                fixed (byte* to = buffer)
                {
                    result = gnutls_record_recv(Session, to, (nuint)buffer.Length);
                }
            }
            while (result < 0 && result != GNUTLS_E_AGAIN && IsTransient((int)result));

            error = result >= 0 || result is GNUTLS_E_AGAIN or GNUTLS_E_PREMATURE_TERMINATION
                ? null : Describe((int)result);
            return result == GNUTLS_E_PREMATURE_TERMINATION ? 0 : (int)Math.Max(result, -1);
        }
    }

    /// <summary>Encrypts all of it into the output; the answer is what went wrong, or null.</summary>
    public string? Send(ReadOnlySpan<byte> data)
    {
        lock (_lock)
        {
            while (!data.IsEmpty)
            {
                nint result;

                // SAFETY: used during the call only, with the span's own length.
                fixed (byte* from = data)
                {
                    result = gnutls_record_send(Session, from, (nuint)data.Length);
                }

                if (result < 0)
                {
                    return Describe((int)result);
                }

                data = data[(int)result..];
            }

            return null;
        }
    }

    /// <summary>Bytes from the peer; none: it has closed the connection.</summary>
    public void Feed(ReadOnlySpan<byte> data)
    {
        lock (_lock)
        {
            _inputEnded |= data.IsEmpty;
            if (_inputStart > 0)
            {
                _input.AsSpan(_inputStart.._inputEnd).CopyTo(_input);
                _inputEnd -= _inputStart;
                _inputStart = 0;
            }

            if (_inputEnd + data.Length > _input.Length)
            {
                Array.Resize(ref _input, _inputEnd + data.Length);
            }

            data.CopyTo(_input.AsSpan(_inputEnd));
            _inputEnd += data.Length;
        }
    }

    /// <summary>Takes out what is to go to the peer.</summary>
    public byte[] TakeOutput()
    {
        lock (_lock)
        {
            byte[] bytes = _output.WrittenSpan.ToArray();
            _output.ResetWrittenCount();
            return bytes;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_session != 0)
            {
                gnutls_deinit(_session);
                _session = 0;
            }

            if (_credentials != 0)
            {
                gnutls_psk_free_client_credentials(_credentials);
                _credentials = 0;
            }

            if (_self.IsAllocated)
            {
                _self.Free();
            }
        }
    }

    private nint Session => _session != 0 ? _session : throw new ObjectDisposedException(nameof(GnuTlsSession));

    private void Begin(string user, ReadOnlySpan<byte> hexKey)
    {
        Check(gnutls_init(out _session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL));
        Check(gnutls_priority_set_direct(_session, Priorities, 0));
        Check(gnutls_psk_allocate_client_credentials(out _credentials));

        // SAFETY: the library copies user and key during the call.
        fixed (byte* key = hexKey)
        {
            var datum = new GnuTlsDatum { Data = key, Size = (uint)hexKey.Length };
            Check(gnutls_psk_set_client_credentials(_credentials, user, &datum, GNUTLS_PSK_KEY_HEX));
        }

        Check(gnutls_credentials_set(_session, GNUTLS_CRD_PSK, _credentials));

        // SAFETY: the handle lives until Dispose, which ends the session first; the functions are static.
        gnutls_transport_set_ptr(_session, GCHandle.ToIntPtr(_self));
        gnutls_transport_set_push_function(_session, &Push);
        gnutls_transport_set_pull_function(_session, &Pull);
        gnutls_transport_set_pull_timeout_function(_session, &Wait);
    }

    private static void Check(int result)
    {
        if (result != GNUTLS_E_SUCCESS)
        {
            throw new IOException(Describe(result));
        }
    }

    private static bool IsTransient(int result) =>
        result is GNUTLS_E_AGAIN or GNUTLS_E_INTERRUPTED || gnutls_error_is_fatal(result) == 0;

    private static string Describe(int result) =>
        Marshal.PtrToStringUTF8(gnutls_strerror(result))?.TrimEnd('.') ?? $"GnuTLS error {result}";

    private static GnuTlsSession? Of(nint pointer) => GCHandle.FromIntPtr(pointer).Target as GnuTlsSession;

    /// <summary>Called by the library, within one of our calls; so under the lock.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint Push(nint pointer, byte* data, nuint size)
    {
        if (Of(pointer) is not { } session)
        {
            return -1;
        }

        session._output.Write(new ReadOnlySpan<byte>(data, (int)size));
        return (nint)size;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint Pull(nint pointer, byte* data, nuint size)
    {
        if (Of(pointer) is not { } session)
        {
            return -1;
        }

        int count = (int)Math.Min((nuint)(session._inputEnd - session._inputStart), size);
        if (count == 0)
        {
            if (!session._inputEnded)
            {
                gnutls_transport_set_errno(session._session, Errno.EAGAIN);
                return -1;
            }

            return 0;
        }

        session._input.AsSpan(session._inputStart, count).CopyTo(new Span<byte>(data, count));
        session._inputStart += count;
        return count;
    }

    /// <summary>Whether input is there, without waiting for it.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Wait(nint pointer, uint timeoutMs) =>
        Of(pointer) is { } session && (session._inputEnd > session._inputStart || session._inputEnded) ? 1 : 0;
}
