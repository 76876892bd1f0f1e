using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libiscsi, loaded on demand: what <see cref="IscsiContext"/> and <see cref="IscsiCommand"/> need of it. Names and
/// numbers as in iscsi/iscsi.h and iscsi/scsi-lowlevel.h. Functions are looked up in whichever version there is, because
/// its soname changes often while these functions do not; that is why they are pointers and no imports.
/// </summary>
public static unsafe class IscsiLibrary
{
    /// <summary>What the dynamic loader is asked for first.</summary>
    public const string FileName = "libiscsi.so.7";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libiscsi7";

    /// <summary>Longest text that the library takes (names, passwords), bytes; it would cut off more.</summary>
    public const int MaxText = 255;

    internal const int ISCSI_SESSION_NORMAL = 2;
    internal const int SCSI_XFER_NONE = 0;
    internal const int SCSI_XFER_READ = 1;
    internal const int SCSI_XFER_WRITE = 2;

    private static readonly string[] OtherNames =
        ["libiscsi.so.8", "libiscsi.so.9", "libiscsi.so.10", "libiscsi.so.11", "libiscsi.so.12"];

    private static readonly Lazy<nint> Handle = new(Load);

    /// <summary>True when the library is installed and could be loaded.</summary>
    public static bool IsAvailable => Handle.Value != 0;

    private static nint Load()
    {
        foreach (string name in (string[])[FileName, .. OtherNames])
        {
            if (NativeLibrary.TryLoad(name, out nint handle))
            {
                return handle;
            }
        }

        return 0;
    }

    /// <summary>The functions; touched only after <see cref="IsAvailable"/> was true.</summary>
    internal static class Native
    {
        // SAFETY: of all below: the signatures are those of the header; contexts and tasks are pointers of the library that
        // IscsiContext and IscsiCommand keep; texts are zero-terminated and copied during the call.
        public static readonly delegate* unmanaged[Cdecl]<byte*, nint> iscsi_create_context =
            (delegate* unmanaged[Cdecl]<byte*, nint>)Find(nameof(iscsi_create_context));

        public static readonly delegate* unmanaged[Cdecl]<nint, int> iscsi_destroy_context =
            Plain(nameof(iscsi_destroy_context));

        public static readonly delegate* unmanaged[Cdecl]<nint, int> iscsi_get_fd = Plain(nameof(iscsi_get_fd));

        public static readonly delegate* unmanaged[Cdecl]<nint, int> iscsi_which_events = Plain(nameof(iscsi_which_events));

        public static readonly delegate* unmanaged[Cdecl]<nint, int> iscsi_out_queue_length =
            Plain(nameof(iscsi_out_queue_length));

        public static readonly delegate* unmanaged[Cdecl]<nint, int> iscsi_is_logged_in = Plain(nameof(iscsi_is_logged_in));

        public static readonly delegate* unmanaged[Cdecl]<nint, int, int> iscsi_service =
            (delegate* unmanaged[Cdecl]<nint, int, int>)Find(nameof(iscsi_service));

        public static readonly delegate* unmanaged[Cdecl]<nint, int, int> iscsi_set_session_type =
            (delegate* unmanaged[Cdecl]<nint, int, int>)Find(nameof(iscsi_set_session_type));

        public static readonly delegate* unmanaged[Cdecl]<nint, int, int> iscsi_set_header_digest =
            (delegate* unmanaged[Cdecl]<nint, int, int>)Find(nameof(iscsi_set_header_digest));

        public static readonly delegate* unmanaged[Cdecl]<nint, int, void> iscsi_set_log_level =
            (delegate* unmanaged[Cdecl]<nint, int, void>)Find(nameof(iscsi_set_log_level));

        public static readonly delegate* unmanaged[Cdecl]<nint, delegate* unmanaged[Cdecl]<int, byte*, void>, void>
            iscsi_set_log_fn =
            (delegate* unmanaged[Cdecl]<nint, delegate* unmanaged[Cdecl]<int, byte*, void>, void>)Find(
                nameof(iscsi_set_log_fn));

        public static readonly delegate* unmanaged[Cdecl]<nint, int, void> iscsi_set_noautoreconnect =
            (delegate* unmanaged[Cdecl]<nint, int, void>)Find(nameof(iscsi_set_noautoreconnect));

        public static readonly delegate* unmanaged[Cdecl]<nint, uint, uint, int> iscsi_set_isid_random =
            (delegate* unmanaged[Cdecl]<nint, uint, uint, int>)Find(nameof(iscsi_set_isid_random));

        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, int> iscsi_set_targetname =
            (delegate* unmanaged[Cdecl]<nint, byte*, int>)Find(nameof(iscsi_set_targetname));

        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, byte*, int> iscsi_set_initiator_username_pwd =
            (delegate* unmanaged[Cdecl]<nint, byte*, byte*, int>)Find(nameof(iscsi_set_initiator_username_pwd));

        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, byte*, int> iscsi_set_target_username_pwd =
            (delegate* unmanaged[Cdecl]<nint, byte*, byte*, int>)Find(nameof(iscsi_set_target_username_pwd));

        public static readonly delegate* unmanaged[Cdecl]<nint, nint> iscsi_get_error =
            (delegate* unmanaged[Cdecl]<nint, nint>)Find(nameof(iscsi_get_error));

        public static readonly delegate* unmanaged[Cdecl]<nint, nint> iscsi_get_target_address =
            (delegate* unmanaged[Cdecl]<nint, nint>)Find(nameof(iscsi_get_target_address));

        public static readonly delegate* unmanaged[Cdecl]<
            nint, byte*, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int> iscsi_connect_async =
            (delegate* unmanaged[Cdecl]<
                nint, byte*, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int>)Find(
                    nameof(iscsi_connect_async));

        public static readonly delegate* unmanaged[Cdecl]<
            nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int> iscsi_login_async =
            Staged(nameof(iscsi_login_async));

        public static readonly delegate* unmanaged[Cdecl]<
            nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int> iscsi_logout_async =
            Staged(nameof(iscsi_logout_async));

        public static readonly delegate* unmanaged[Cdecl]<
            nint, int, nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, nint, int>
            iscsi_scsi_command_async =
            (delegate* unmanaged[Cdecl]<
                nint, int, nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, nint, int>)Find(
                    nameof(iscsi_scsi_command_async));

        public static readonly delegate* unmanaged[Cdecl]<int, byte*, int, int, nint> scsi_create_task =
            (delegate* unmanaged[Cdecl]<int, byte*, int, int, nint>)Find(nameof(scsi_create_task));

        public static readonly delegate* unmanaged[Cdecl]<nint, void> scsi_free_scsi_task =
            (delegate* unmanaged[Cdecl]<nint, void>)Find(nameof(scsi_free_scsi_task));

        public static readonly delegate* unmanaged[Cdecl]<nint, ScsiIovec*, int, void> scsi_task_set_iov_in =
            (delegate* unmanaged[Cdecl]<nint, ScsiIovec*, int, void>)Find(nameof(scsi_task_set_iov_in));

        public static readonly delegate* unmanaged[Cdecl]<nint, ScsiIovec*, int, void> scsi_task_set_iov_out =
            (delegate* unmanaged[Cdecl]<nint, ScsiIovec*, int, void>)Find(nameof(scsi_task_set_iov_out));

        private static nint Find(string name) => NativeLibrary.GetExport(Handle.Value, name);

        private static delegate* unmanaged[Cdecl]<nint, int> Plain(string name) =>
            (delegate* unmanaged[Cdecl]<nint, int>)Find(name);

        private static delegate* unmanaged[Cdecl]<
            nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int> Staged(string name) =>
            (delegate* unmanaged[Cdecl]<
                nint, delegate* unmanaged[Cdecl]<nint, int, nint, nint, void>, nint, int>)Find(name);
    }

    /// <summary>struct scsi_iovec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ScsiIovec
    {
        public void* Base;
        public nuint Length;
    }

    /// <summary>struct scsi_task, as far as it is read; the layout of 64-bit machines, as in 1.19 and now.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 176)]
    internal struct ScsiTask
    {
        [FieldOffset(32)]
        public int ResidualStatus;

        [FieldOffset(40)]
        public nuint Residual;

        [FieldOffset(64)]
        public int DataLength;

        [FieldOffset(72)]
        public byte* Data;
    }
}
