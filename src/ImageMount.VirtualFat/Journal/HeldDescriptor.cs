using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Journal;

/// <summary>The number of an open file, which stays open meanwhile.</summary>
internal readonly ref struct HeldDescriptor
{
    private readonly SafeFileHandle _handle;
    private readonly bool _held;

    /// <summary>Holds it.</summary>
    public HeldDescriptor(SafeFileHandle handle)
    {
        _handle = handle;
        handle.DangerousAddRef(ref _held);
    }

    /// <summary>The number.</summary>
    public int Number => (int)_handle.DangerousGetHandle();

    /// <summary>Lets go.</summary>
    public void Dispose()
    {
        if (_held)
        {
            _handle.DangerousRelease();
        }
    }
}
