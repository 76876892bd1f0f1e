using ImageMount.Fuse.Transport.Uring;

namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>
/// Turns FUSE over io_uring on for the tests of a class, where that is possible, and puts it back. It is the whole
/// machine's setting, but who does not ask for it notices nothing.
/// </summary>
public sealed class UringSwitch : IDisposable
{
    private readonly bool _wasOn = UringTransport.IsOffered();

    public UringSwitch() => IsOn = _wasOn || TrySet("Y");

    /// <summary>The kernel offers it now.</summary>
    public bool IsOn { get; }

    public void Dispose()
    {
        if (IsOn && !_wasOn)
        {
            TrySet("N");
        }
    }

    private static bool TrySet(string value)
    {
        try
        {
            File.WriteAllText(UringTransport.Parameter, value);
            return UringTransport.IsOffered() == (value == "Y");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // an older kernel, or not root
        }
    }
}
