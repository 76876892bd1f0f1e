namespace ImageMount.Interop;

/// <summary>A system call failed: which one, on what, with which errno (positive).</summary>
public sealed class ErrnoException(string call, string? subject, int errno)
    : IOException(subject is null
        ? $"{call}: {Interop.Errno.Format(errno)}"
        : $"{call}({subject}): {Interop.Errno.Format(errno)}")
{
    /// <summary>The C name of the call, such as <c>mount</c>.</summary>
    public string Call { get; } = call;

    /// <summary>What it was called on (a path, usually), when there is something to name.</summary>
    public string? Subject { get; } = subject;

    /// <summary>The errno, positive.</summary>
    public int Errno { get; } = errno;
}
