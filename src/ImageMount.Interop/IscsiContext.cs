using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using static ImageMount.Interop.IscsiLibrary;

namespace ImageMount.Interop;

/// <summary>Who logs in to which target, and how.</summary>
public sealed record IscsiLogin
{
    /// <summary>Name of this initiator.</summary>
    public required string Initiator { get; init; }

    /// <summary>Name of the target.</summary>
    public required string Target { get; init; }

    /// <summary>CHAP: our name and password; null for none.</summary>
    public (string User, string Password)? Chap { get; init; }

    /// <summary>CHAP the other way: the target's name and password; null where it need not prove itself.</summary>
    public (string User, string Password)? TargetChap { get; init; }

    /// <summary>enum iscsi_header_digest: 0 none, 1 none or CRC32C, 2 CRC32C or none, 3 CRC32C.</summary>
    public int HeaderDigest { get; init; }

    /// <summary>
    /// 24 bits that tell this session from others of the same initiator; a login with those of an earlier session takes
    /// that one's place, and ends what it had under way (RFC 7143, 6.3.5).
    /// </summary>
    public uint SessionId { get; init; }

    /// <inheritdoc/>
    public override string ToString() => "(login)";
}

/// <summary>
/// A session of libiscsi. Never waits but in <see cref="Wait"/>, never connects again by itself, and belongs to one thread:
/// every member is called on it, and everything that is called back.
/// </summary>
/// <remarks>
/// What a target answers in the login, libiscsi believes without looking, and has no function that tells it. It does write it
/// to its log; so that is read until the login is over. The library makes lines of its log in memory that all contexts
/// share, therefore logins take their steps one after the other.
/// </remarks>
public sealed unsafe class IscsiContext : IDisposable
{
    private const short POLLIN = 1;
    private const short POLLOUT = 4;

    /// <summary>Most answers at a time that came before their data was sent.</summary>
    private const int MaxLeft = 4096;

    /// <summary>Largest payload of a command, bytes.</summary>
    public const int MaxTransfer = 4 << 20;

    /// <summary>The level on which the library tells what a target answers.</summary>
    private const int AnswersLevel = 6;
    private const int MaxAnswers = 256;

    private static readonly Lock LoginLock = new();

    [ThreadStatic]
    private static IscsiContext? _loggingIn;

    // SAFETY: never freed, never written; sent in place of data that nobody wants any more.
    private static readonly Lazy<nint> Zeroes = new(() => (nint)NativeMemory.AllocZeroed(MaxTransfer));

    private readonly List<(nint Task, nint Iovec)> _left = [];
    private readonly List<(string Key, string Value)> _answers = [];
    private bool _isListening;
    private GCHandle _self;
    private nint _context;

    /// <summary>A context that is not connected. Throws <see cref="OutOfMemoryException"/>.</summary>
    public IscsiContext(IscsiLogin login)
    {
        _context = WithText(login.Initiator, static (_, text) => Native.iscsi_create_context(text), 0);
        if (_context == 0)
        {
            throw new OutOfMemoryException("iscsi_create_context");
        }

        _self = GCHandle.Alloc(this);
        _isListening = true;
        Native.iscsi_set_log_fn(_context, &OnLog);
        Native.iscsi_set_log_level(_context, AnswersLevel);
        Native.iscsi_set_noautoreconnect(_context, 1);
        Native.iscsi_set_session_type(_context, ISCSI_SESSION_NORMAL);
        Native.iscsi_set_header_digest(_context, login.HeaderDigest);
        Native.iscsi_set_isid_random(_context, login.SessionId & 0xffffff, 0);
        WithText(login.Target, static (context, text) => Native.iscsi_set_targetname(context, text), _context);
        if (login.Chap is { } chap)
        {
            WithTexts(chap, Native.iscsi_set_initiator_username_pwd);
        }

        if (login.TargetChap is { } target)
        {
            WithTexts(target, Native.iscsi_set_target_username_pwd);
        }
    }

    /// <summary>The connection is there, or failed (not 0).</summary>
    public Action<int>? Connected { get; set; }

    /// <summary>The login went through, or failed (not 0); <see cref="Redirected"/> means another address.</summary>
    public Action<int>? LoggedIn { get; set; }

    /// <summary>The target has let us go.</summary>
    public Action<int>? LoggedOut { get; set; }

    /// <summary>Result of a login: go to <see cref="TargetAddress"/>.</summary>
    public const int Redirected = 0x101;

    /// <summary>What the library says of its last failure; may be old news.</summary>
    public ReadOnlySpan<byte> ErrorText => _context == 0
        ? [] : MemoryMarshal.CreateReadOnlySpanFromNullTerminated((byte*)Native.iscsi_get_error(_context));

    /// <summary>Where the target sends us.</summary>
    public string TargetAddress => Marshal.PtrToStringUTF8(Native.iscsi_get_target_address(_context)) ?? "";

    /// <summary>True while commands can be sent.</summary>
    public bool IsLoggedIn => Native.iscsi_is_logged_in(_context) != 0;

    /// <summary>What the target answered in the login, in order, without CHAP's values.</summary>
    public IReadOnlyList<(string Key, string Value)> Answers => _answers;

    /// <summary>The target answered more than is kept.</summary>
    public bool HasTooManyAnswers => _answers.Count >= MaxAnswers;

    /// <summary>Begins to connect; false: that failed at once.</summary>
    /// <param name="portal">"192.0.2.1:3260", "[2001:db8::1]:3260"; a name would make the library wait for it.</param>
    public bool TryConnect(string portal) => Listening(
        static (context, portal) => WithText(
            portal,
            static (context, text) => Native.iscsi_connect_async(context._context, text, &OnConnected, context.Pointer),
            context) == 0, portal);

    /// <summary>The login is over: nothing is read of the log any more.</summary>
    public void StopListening()
    {
        _isListening = false;
        Native.iscsi_set_log_level(_context, 0);
    }

    /// <summary>Begins to log in.</summary>
    public bool TryLogin() => Native.iscsi_login_async(_context, &OnLoggedIn, Pointer) == 0;

    /// <summary>Begins to log out.</summary>
    public bool TryLogout() => Native.iscsi_logout_async(_context, &OnLoggedOut, Pointer) == 0;

    /// <summary>Queues a command; false: it was not taken.</summary>
    public bool TrySend(
        IscsiCommand command, int lun, ReadOnlySpan<byte> cdb, ScsiDirection direction, ReadOnlyMemory<byte> memory) =>
        command.Submit(this, _context, lun, cdb, direction, memory);

    /// <summary>
    /// Waits for the target or for <paramref name="wake"/>; what the socket is ready for goes to <see cref="Service"/>.
    /// Negative: there is no connection.
    /// </summary>
    /// <param name="wake">An eventfd.</param>
    /// <param name="isWoken">It was signalled.</param>
    public short Wait(SafeFileHandle wake, out bool isWoken)
    {
        isWoken = false;
        int fd = Native.iscsi_get_fd(_context);
        return fd < 0 ? (short)-1
            : SysPoll.WaitTwo(fd, (short)Native.iscsi_which_events(_context), wake, -1, out isWoken);
    }

    /// <summary>Sends and receives; false: the session is over.</summary>
    public bool Service(short events)
    {
        bool isAlive = _left.Count <= MaxLeft && (_isListening
            ? Listening(static (context, events) => Native.iscsi_service(context._context, events) == 0, events)
            : Native.iscsi_service(_context, events) == 0);
        if (_left.Count > 0 && !MayStillSend())
        {
            FreeLeft();
        }

        return isAlive;
    }

    /// <summary>Sends what is queued as far as that goes at once.</summary>
    public bool ServiceOutput() =>
        (Native.iscsi_which_events(_context) & POLLOUT) == 0 || Service(POLLOUT);

    /// <summary>
    /// Ends the session and the connection. Commands under way are replied to as cancelled, or not at all: see
    /// <see cref="Forget"/>.
    /// </summary>
    public void Dispose()
    {
        if (_context != 0)
        {
            nint context = _context;
            Native.iscsi_set_log_level(context, 0);
            _context = 0; // Whatever is replied to now may still be in use until the call returns.
            Native.iscsi_destroy_context(context);
            FreeLeft();
            _self.Free();
        }
    }

    /// <summary>After the end: a command that was not replied to is free again.</summary>
    public static void Forget(IscsiCommand command) => command.Drop();

    /// <summary>True while the library may still read the data of some command.</summary>
    internal bool MayStillSend() => _context == 0
        || (Native.iscsi_which_events(_context) & POLLOUT) != 0 || Native.iscsi_out_queue_length(_context) > 0;

    /// <summary>Takes over a task that has ended while its data may still be sent.</summary>
    internal void Leave(nint task, ScsiIovec* iovec)
    {
        // SAFETY: zeroes are at least as long as any payload, which the sender checks.
        iovec->Base = (void*)Zeroes.Value;
        _left.Add((task, (nint)iovec));
    }

    private nint Pointer => GCHandle.ToIntPtr(_self);

    private void FreeLeft()
    {
        foreach ((nint task, nint iovec) in _left)
        {
            // SAFETY: nothing refers to them: all is sent, or the context is gone.
            Native.scsi_free_scsi_task(task);
            NativeMemory.Free((void*)iovec);
        }

        _left.Clear();
    }

    private delegate TResult TextUser<TState, TResult>(TState state, byte* text);

    private static TResult WithText<TState, TResult>(string text, TextUser<TState, TResult> use, TState state)
    {
        byte[] bytes = GC.AllocateArray<byte>(Encoding.UTF8.GetByteCount(text) + 1, pinned: true);
        Encoding.UTF8.GetBytes(text, bytes);

        // SAFETY: the array ends with a zero, and the library copies it during the call.
        fixed (byte* pointer = bytes)
        {
            TResult result = use(state, pointer);
            CryptographicOperations.ZeroMemory(bytes);
            return result;
        }
    }

    private void WithTexts((string User, string Password) login, delegate* unmanaged[Cdecl]<nint, byte*, byte*, int> set)
    {
        byte[] user = [.. Encoding.UTF8.GetBytes(login.User), 0];
        byte[] password = GC.AllocateArray<byte>(Encoding.UTF8.GetByteCount(login.Password) + 1, pinned: true);
        Encoding.UTF8.GetBytes(login.Password, password);

        // SAFETY: both end with a zero, and the library copies them during the call.
        fixed (byte* userPointer = user)
        fixed (byte* passwordPointer = password)
        {
            set(_context, userPointer, passwordPointer);
        }

        CryptographicOperations.ZeroMemory(password);
    }

    /// <summary>Does a step of the login, apart from others.</summary>
    private bool Listening<T>(Func<IscsiContext, T, bool> step, T argument)
    {
        lock (LoginLock)
        {
            _loggingIn = this;
            try
            {
                return step(this, argument);
            }
            finally
            {
                _loggingIn = null;
            }
        }
    }

    private void Note(ReadOnlySpan<byte> line)
    {
        ReadOnlySpan<byte> prefix = "TargetLoginReply: "u8;
        int end = line.LastIndexOf(" ["u8); // The library adds the name of the target.
        if (!line.StartsWith(prefix) || end < prefix.Length || _answers.Count >= MaxAnswers)
        {
            return;
        }

        string text = Encoding.UTF8.GetString(line[prefix.Length..end]);
        int equals = text.IndexOf('=');
        string key = equals < 0 ? text : text[..equals];
        bool isSecret = key.StartsWith("CHAP_", StringComparison.Ordinal);
        _answers.Add((key, equals < 0 || isSecret ? "" : text[(equals + 1)..]));
    }

    // SAFETY: the line ends with a zero and is the library's during the call; the context is that of this thread's step.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnLog(int level, byte* line)
    {
        if (level == AnswersLevel && _loggingIn is { } context)
        {
            context.Note(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(line));
        }
    }

    // SAFETY: of the three below: the pointer is the handle of the context, which lives until Dispose has ended the session.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnConnected(nint context, int status, nint data, nint pointer) =>
        ((IscsiContext)GCHandle.FromIntPtr(pointer).Target!).Connected?.Invoke(status);

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnLoggedIn(nint context, int status, nint data, nint pointer) =>
        ((IscsiContext)GCHandle.FromIntPtr(pointer).Target!).LoggedIn?.Invoke(status);

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnLoggedOut(nint context, int status, nint data, nint pointer) =>
        ((IscsiContext)GCHandle.FromIntPtr(pointer).Target!).LoggedOut?.Invoke(status);
}
