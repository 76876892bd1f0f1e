using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>libgnutls, loaded on demand, for TLS with pre-shared keys. Names and numbers as in gnutls/gnutls.h.</summary>
public static unsafe partial class GnuTlsLibrary
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libgnutls.so.30";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libgnutls30";

    internal const uint GNUTLS_CLIENT = 2;
    internal const uint GNUTLS_NONBLOCK = 8;
    internal const uint GNUTLS_NO_SIGNAL = 64;
    internal const int GNUTLS_CRD_PSK = 4;
    internal const int GNUTLS_PSK_KEY_HEX = 1;
    internal const int GNUTLS_E_SUCCESS = 0;
    internal const int GNUTLS_E_AGAIN = -28;
    internal const int GNUTLS_E_INTERRUPTED = -52;
    internal const int GNUTLS_E_PREMATURE_TERMINATION = -110;

    private static readonly Lazy<bool> Loaded = new(() => NativeLibrary.TryLoad(FileName, out _));

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Loaded.Value;

    // SAFETY: of all below: pointers are used during the call only, except the transport pointer and the functions, which
    // GnuTlsSession keeps alive as long as the session.
    [LibraryImport(FileName)]
    internal static partial int gnutls_init(out nint session, uint flags);

    [LibraryImport(FileName)]
    internal static partial void gnutls_deinit(nint session);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int gnutls_priority_set_direct(nint session, string priorities, nint errorPosition);

    [LibraryImport(FileName)]
    internal static partial int gnutls_psk_allocate_client_credentials(out nint credentials);

    [LibraryImport(FileName)]
    internal static partial void gnutls_psk_free_client_credentials(nint credentials);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int gnutls_psk_set_client_credentials(
        nint credentials, string user, GnuTlsDatum* key, int format);

    [LibraryImport(FileName)]
    internal static partial int gnutls_credentials_set(nint session, int type, nint credentials);

    [LibraryImport(FileName)]
    internal static partial void gnutls_transport_set_ptr(nint session, nint pointer);

    [LibraryImport(FileName)]
    internal static partial void gnutls_transport_set_push_function(
        nint session, delegate* unmanaged[Cdecl]<nint, byte*, nuint, nint> push);

    [LibraryImport(FileName)]
    internal static partial void gnutls_transport_set_pull_function(
        nint session, delegate* unmanaged[Cdecl]<nint, byte*, nuint, nint> pull);

    [LibraryImport(FileName)]
    internal static partial void gnutls_transport_set_pull_timeout_function(
        nint session, delegate* unmanaged[Cdecl]<nint, uint, int> wait);

    [LibraryImport(FileName)]
    internal static partial void gnutls_transport_set_errno(nint session, int errno);

    [LibraryImport(FileName)]
    internal static partial int gnutls_handshake(nint session);

    [LibraryImport(FileName)]
    internal static partial nint gnutls_record_send(nint session, byte* data, nuint size);

    [LibraryImport(FileName)]
    internal static partial nint gnutls_record_recv(nint session, byte* data, nuint size);

    [LibraryImport(FileName)]
    internal static partial nint gnutls_strerror(int error);

    [LibraryImport(FileName)]
    internal static partial int gnutls_error_is_fatal(int error);

    /// <summary>gnutls_datum_t.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct GnuTlsDatum
    {
        public byte* Data;
        public uint Size;
    }
}
