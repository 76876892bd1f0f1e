namespace ImageMount.Fuse;

/// <summary>An errno on its way into any <see cref="FuseResult{T}"/>: <c>return new
/// FuseError(Errno.ENOENT);</c></summary>
/// <param name="Errno">Positive errno.</param>
public readonly record struct FuseError(int Errno);

/// <summary>A value, or the errno that explains why there is none; no exception and no allocation either way.</summary>
public readonly struct FuseResult<T>
    where T : struct
{
    private readonly T _value;

    private FuseResult(int errno, in T value)
    {
        Errno = errno;
        _value = value;
    }

    /// <summary>0, or a positive errno.</summary>
    public int Errno { get; }

    /// <summary>True when <see cref="Value"/> may be asked for.</summary>
    public bool IsSuccess => Errno == 0;

    /// <summary>The value. Throws <see cref="FuseException"/> when there is none.</summary>
    public T Value => Errno == 0 ? _value : throw new FuseException(Errno);

    public static implicit operator FuseResult<T>(T value) => new(0, value);

    public static implicit operator FuseResult<T>(FuseError error) => new(Math.Max(error.Errno, 1), default);

    /// <summary>Shorthand where the compiler does not find the conversion: inside <c>ValueTask.FromResult</c>, say.
    /// </summary>
    public static ValueTask<FuseResult<T>> Completed(in T value) => new((FuseResult<T>)value);

    /// <summary>A completed task that fails with <paramref name="errno"/> (positive).</summary>
    public static ValueTask<FuseResult<T>> Failed(int errno) => new((FuseResult<T>)new FuseError(errno));
}
