namespace ImageMount.Interop;

/// <summary>
/// The errno values of Linux on x86-64 and arm64 (asm-generic/errno-base.h, asm-generic/errno.h), and the one table
/// that gives each its name and the sentence people know from strerror(3). Numbers are positive here; the hot paths
/// of <c>ImageMount.Fuse</c> and the P/Invoke wrappers hand them on negated.
/// </summary>
public static class Errno
{
    public const int EPERM = 1;
    public const int ENOENT = 2;
    public const int ESRCH = 3;
    public const int EINTR = 4;
    public const int EIO = 5;
    public const int ENXIO = 6;
    public const int E2BIG = 7;
    public const int ENOEXEC = 8;
    public const int EBADF = 9;
    public const int ECHILD = 10;
    public const int EAGAIN = 11;
    public const int ENOMEM = 12;
    public const int EACCES = 13;
    public const int EFAULT = 14;
    public const int ENOTBLK = 15;
    public const int EBUSY = 16;
    public const int EEXIST = 17;
    public const int EXDEV = 18;
    public const int ENODEV = 19;
    public const int ENOTDIR = 20;
    public const int EISDIR = 21;
    public const int EINVAL = 22;
    public const int ENFILE = 23;
    public const int EMFILE = 24;
    public const int ENOTTY = 25;
    public const int ETXTBSY = 26;
    public const int EFBIG = 27;
    public const int ENOSPC = 28;
    public const int ESPIPE = 29;
    public const int EROFS = 30;
    public const int EMLINK = 31;
    public const int EPIPE = 32;
    public const int EDOM = 33;
    public const int ERANGE = 34;
    public const int EDEADLK = 35;
    public const int ENAMETOOLONG = 36;
    public const int ENOLCK = 37;
    public const int ENOSYS = 38;
    public const int ENOTEMPTY = 39;
    public const int ELOOP = 40;
    public const int ENOMSG = 42;
    public const int EIDRM = 43;
    public const int ECHRNG = 44;
    public const int EL2NSYNC = 45;
    public const int EL3HLT = 46;
    public const int EL3RST = 47;
    public const int ELNRNG = 48;
    public const int EUNATCH = 49;
    public const int ENOCSI = 50;
    public const int EL2HLT = 51;
    public const int EBADE = 52;
    public const int EBADR = 53;
    public const int EXFULL = 54;
    public const int ENOANO = 55;
    public const int EBADRQC = 56;
    public const int EBADSLT = 57;
    public const int EBFONT = 59;
    public const int ENOSTR = 60;
    public const int ENODATA = 61;
    public const int ETIME = 62;
    public const int ENOSR = 63;
    public const int ENONET = 64;
    public const int ENOPKG = 65;
    public const int EREMOTE = 66;
    public const int ENOLINK = 67;
    public const int EADV = 68;
    public const int ESRMNT = 69;
    public const int ECOMM = 70;
    public const int EPROTO = 71;
    public const int EMULTIHOP = 72;
    public const int EDOTDOT = 73;
    public const int EBADMSG = 74;
    public const int EOVERFLOW = 75;
    public const int ENOTUNIQ = 76;
    public const int EBADFD = 77;
    public const int EREMCHG = 78;
    public const int ELIBACC = 79;
    public const int ELIBBAD = 80;
    public const int ELIBSCN = 81;
    public const int ELIBMAX = 82;
    public const int ELIBEXEC = 83;
    public const int EILSEQ = 84;
    public const int ERESTART = 85;
    public const int ESTRPIPE = 86;
    public const int EUSERS = 87;
    public const int ENOTSOCK = 88;
    public const int EDESTADDRREQ = 89;
    public const int EMSGSIZE = 90;
    public const int EPROTOTYPE = 91;
    public const int ENOPROTOOPT = 92;
    public const int EPROTONOSUPPORT = 93;
    public const int ESOCKTNOSUPPORT = 94;
    public const int EOPNOTSUPP = 95;
    public const int EPFNOSUPPORT = 96;
    public const int EAFNOSUPPORT = 97;
    public const int EADDRINUSE = 98;
    public const int EADDRNOTAVAIL = 99;
    public const int ENETDOWN = 100;
    public const int ENETUNREACH = 101;
    public const int ENETRESET = 102;
    public const int ECONNABORTED = 103;
    public const int ECONNRESET = 104;
    public const int ENOBUFS = 105;
    public const int EISCONN = 106;
    public const int ENOTCONN = 107;
    public const int ESHUTDOWN = 108;
    public const int ETOOMANYREFS = 109;
    public const int ETIMEDOUT = 110;
    public const int ECONNREFUSED = 111;
    public const int EHOSTDOWN = 112;
    public const int EHOSTUNREACH = 113;
    public const int EALREADY = 114;
    public const int EINPROGRESS = 115;
    public const int ESTALE = 116;
    public const int EUCLEAN = 117;
    public const int ENOTNAM = 118;
    public const int ENAVAIL = 119;
    public const int EISNAM = 120;
    public const int EREMOTEIO = 121;
    public const int EDQUOT = 122;
    public const int ENOMEDIUM = 123;
    public const int EMEDIUMTYPE = 124;
    public const int ECANCELED = 125;
    public const int ENOKEY = 126;
    public const int EKEYEXPIRED = 127;
    public const int EKEYREVOKED = 128;
    public const int EKEYREJECTED = 129;
    public const int EOWNERDEAD = 130;
    public const int ENOTRECOVERABLE = 131;
    public const int ERFKILL = 132;

    // Second names for the same number.
    public const int EWOULDBLOCK = EAGAIN;
    public const int ENOTSUP = EOPNOTSUPP;
    public const int EDEADLOCK = EDEADLK;

    private static readonly (string Name, string Text)?[] s_table = BuildTable();

    /// <summary>The C name, such as <c>"EIO"</c>; an unknown number gives <c>"errno 999"</c>.
    /// Accepts a negated value as well.</summary>
    public static string Name(int errno)
    {
        int number = Math.Abs(errno);
        return number < s_table.Length && s_table[number] is { } row ? row.Name : $"errno {number}";
    }

    /// <summary>What strerror(3) says in the C locale; an unknown number gives "Unknown error 999".</summary>
    public static string Describe(int errno)
    {
        int number = Math.Abs(errno);
        return number < s_table.Length && s_table[number] is { } row ? row.Text : $"Unknown error {number}";
    }

    /// <summary>"Input/output error (EIO)": the form in which messages show an errno.</summary>
    public static string Format(int errno) => $"{Describe(errno)} ({Name(errno)})";

    private static (string Name, string Text)?[] BuildTable()
    {
        var table = new (string Name, string Text)?[134];
        foreach (var (number, name, text) in Rows)
        {
            table[number] = (name, text);
        }
        return table;
    }

    private static (int Number, string Name, string Text)[] Rows =>
    [
        (EPERM, "EPERM", "Operation not permitted"),
        (ENOENT, "ENOENT", "No such file or directory"),
        (ESRCH, "ESRCH", "No such process"),
        (EINTR, "EINTR", "Interrupted system call"),
        (EIO, "EIO", "Input/output error"),
        (ENXIO, "ENXIO", "No such device or address"),
        (E2BIG, "E2BIG", "Argument list too long"),
        (ENOEXEC, "ENOEXEC", "Exec format error"),
        (EBADF, "EBADF", "Bad file descriptor"),
        (ECHILD, "ECHILD", "No child processes"),
        (EAGAIN, "EAGAIN", "Resource temporarily unavailable"),
        (ENOMEM, "ENOMEM", "Cannot allocate memory"),
        (EACCES, "EACCES", "Permission denied"),
        (EFAULT, "EFAULT", "Bad address"),
        (ENOTBLK, "ENOTBLK", "Block device required"),
        (EBUSY, "EBUSY", "Device or resource busy"),
        (EEXIST, "EEXIST", "File exists"),
        (EXDEV, "EXDEV", "Invalid cross-device link"),
        (ENODEV, "ENODEV", "No such device"),
        (ENOTDIR, "ENOTDIR", "Not a directory"),
        (EISDIR, "EISDIR", "Is a directory"),
        (EINVAL, "EINVAL", "Invalid argument"),
        (ENFILE, "ENFILE", "Too many open files in system"),
        (EMFILE, "EMFILE", "Too many open files"),
        (ENOTTY, "ENOTTY", "Inappropriate ioctl for device"),
        (ETXTBSY, "ETXTBSY", "Text file busy"),
        (EFBIG, "EFBIG", "File too large"),
        (ENOSPC, "ENOSPC", "No space left on device"),
        (ESPIPE, "ESPIPE", "Illegal seek"),
        (EROFS, "EROFS", "Read-only file system"),
        (EMLINK, "EMLINK", "Too many links"),
        (EPIPE, "EPIPE", "Broken pipe"),
        (EDOM, "EDOM", "Numerical argument out of domain"),
        (ERANGE, "ERANGE", "Numerical result out of range"),
        (EDEADLK, "EDEADLK", "Resource deadlock avoided"),
        (ENAMETOOLONG, "ENAMETOOLONG", "File name too long"),
        (ENOLCK, "ENOLCK", "No locks available"),
        (ENOSYS, "ENOSYS", "Function not implemented"),
        (ENOTEMPTY, "ENOTEMPTY", "Directory not empty"),
        (ELOOP, "ELOOP", "Too many levels of symbolic links"),
        (ENOMSG, "ENOMSG", "No message of desired type"),
        (EIDRM, "EIDRM", "Identifier removed"),
        (ECHRNG, "ECHRNG", "Channel number out of range"),
        (EL2NSYNC, "EL2NSYNC", "Level 2 not synchronized"),
        (EL3HLT, "EL3HLT", "Level 3 halted"),
        (EL3RST, "EL3RST", "Level 3 reset"),
        (ELNRNG, "ELNRNG", "Link number out of range"),
        (EUNATCH, "EUNATCH", "Protocol driver not attached"),
        (ENOCSI, "ENOCSI", "No CSI structure available"),
        (EL2HLT, "EL2HLT", "Level 2 halted"),
        (EBADE, "EBADE", "Invalid exchange"),
        (EBADR, "EBADR", "Invalid request descriptor"),
        (EXFULL, "EXFULL", "Exchange full"),
        (ENOANO, "ENOANO", "No anode"),
        (EBADRQC, "EBADRQC", "Invalid request code"),
        (EBADSLT, "EBADSLT", "Invalid slot"),
        (EBFONT, "EBFONT", "Bad font file format"),
        (ENOSTR, "ENOSTR", "Device not a stream"),
        (ENODATA, "ENODATA", "No data available"),
        (ETIME, "ETIME", "Timer expired"),
        (ENOSR, "ENOSR", "Out of streams resources"),
        (ENONET, "ENONET", "Machine is not on the network"),
        (ENOPKG, "ENOPKG", "Package not installed"),
        (EREMOTE, "EREMOTE", "Object is remote"),
        (ENOLINK, "ENOLINK", "Link has been severed"),
        (EADV, "EADV", "Advertise error"),
        (ESRMNT, "ESRMNT", "Srmount error"),
        (ECOMM, "ECOMM", "Communication error on send"),
        (EPROTO, "EPROTO", "Protocol error"),
        (EMULTIHOP, "EMULTIHOP", "Multihop attempted"),
        (EDOTDOT, "EDOTDOT", "RFS specific error"),
        (EBADMSG, "EBADMSG", "Bad message"),
        (EOVERFLOW, "EOVERFLOW", "Value too large for defined data type"),
        (ENOTUNIQ, "ENOTUNIQ", "Name not unique on network"),
        (EBADFD, "EBADFD", "File descriptor in bad state"),
        (EREMCHG, "EREMCHG", "Remote address changed"),
        (ELIBACC, "ELIBACC", "Can not access a needed shared library"),
        (ELIBBAD, "ELIBBAD", "Accessing a corrupted shared library"),
        (ELIBSCN, "ELIBSCN", ".lib section in a.out corrupted"),
        (ELIBMAX, "ELIBMAX", "Attempting to link in too many shared libraries"),
        (ELIBEXEC, "ELIBEXEC", "Cannot exec a shared library directly"),
        (EILSEQ, "EILSEQ", "Invalid or incomplete multibyte or wide character"),
        (ERESTART, "ERESTART", "Interrupted system call should be restarted"),
        (ESTRPIPE, "ESTRPIPE", "Streams pipe error"),
        (EUSERS, "EUSERS", "Too many users"),
        (ENOTSOCK, "ENOTSOCK", "Socket operation on non-socket"),
        (EDESTADDRREQ, "EDESTADDRREQ", "Destination address required"),
        (EMSGSIZE, "EMSGSIZE", "Message too long"),
        (EPROTOTYPE, "EPROTOTYPE", "Protocol wrong type for socket"),
        (ENOPROTOOPT, "ENOPROTOOPT", "Protocol not available"),
        (EPROTONOSUPPORT, "EPROTONOSUPPORT", "Protocol not supported"),
        (ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT", "Socket type not supported"),
        (EOPNOTSUPP, "EOPNOTSUPP", "Operation not supported"),
        (EPFNOSUPPORT, "EPFNOSUPPORT", "Protocol family not supported"),
        (EAFNOSUPPORT, "EAFNOSUPPORT", "Address family not supported by protocol"),
        (EADDRINUSE, "EADDRINUSE", "Address already in use"),
        (EADDRNOTAVAIL, "EADDRNOTAVAIL", "Cannot assign requested address"),
        (ENETDOWN, "ENETDOWN", "Network is down"),
        (ENETUNREACH, "ENETUNREACH", "Network is unreachable"),
        (ENETRESET, "ENETRESET", "Network dropped connection on reset"),
        (ECONNABORTED, "ECONNABORTED", "Software caused connection abort"),
        (ECONNRESET, "ECONNRESET", "Connection reset by peer"),
        (ENOBUFS, "ENOBUFS", "No buffer space available"),
        (EISCONN, "EISCONN", "Transport endpoint is already connected"),
        (ENOTCONN, "ENOTCONN", "Transport endpoint is not connected"),
        (ESHUTDOWN, "ESHUTDOWN", "Cannot send after transport endpoint shutdown"),
        (ETOOMANYREFS, "ETOOMANYREFS", "Too many references: cannot splice"),
        (ETIMEDOUT, "ETIMEDOUT", "Connection timed out"),
        (ECONNREFUSED, "ECONNREFUSED", "Connection refused"),
        (EHOSTDOWN, "EHOSTDOWN", "Host is down"),
        (EHOSTUNREACH, "EHOSTUNREACH", "No route to host"),
        (EALREADY, "EALREADY", "Operation already in progress"),
        (EINPROGRESS, "EINPROGRESS", "Operation now in progress"),
        (ESTALE, "ESTALE", "Stale file handle"),
        (EUCLEAN, "EUCLEAN", "Structure needs cleaning"),
        (ENOTNAM, "ENOTNAM", "Not a XENIX named type file"),
        (ENAVAIL, "ENAVAIL", "No XENIX semaphores available"),
        (EISNAM, "EISNAM", "Is a named type file"),
        (EREMOTEIO, "EREMOTEIO", "Remote I/O error"),
        (EDQUOT, "EDQUOT", "Disk quota exceeded"),
        (ENOMEDIUM, "ENOMEDIUM", "No medium found"),
        (EMEDIUMTYPE, "EMEDIUMTYPE", "Wrong medium type"),
        (ECANCELED, "ECANCELED", "Operation canceled"),
        (ENOKEY, "ENOKEY", "Required key not available"),
        (EKEYEXPIRED, "EKEYEXPIRED", "Key has expired"),
        (EKEYREVOKED, "EKEYREVOKED", "Key has been revoked"),
        (EKEYREJECTED, "EKEYREJECTED", "Key was rejected by service"),
        (EOWNERDEAD, "EOWNERDEAD", "Owner died"),
        (ENOTRECOVERABLE, "ENOTRECOVERABLE", "State not recoverable"),
        (ERFKILL, "ERFKILL", "Operation not possible due to RF-kill"),
    ];
}
