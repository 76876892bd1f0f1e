using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>What one call of a decoder came to.</summary>
public enum NativeDecodeStatus
{
    /// <summary>It goes on, when there is more input or more room for output.</summary>
    More,

    /// <summary>The stream ended, and what it says of itself (checks, sizes) is true.</summary>
    End,

    /// <summary>The input is no such stream, or damaged.</summary>
    Damaged,

    /// <summary>The stream needs something that the library does not have.</summary>
    Unsupported,

    /// <summary>The stream asks for more memory than it may have.</summary>
    MemoryLimit,
}

/// <summary>
/// A decoder of a native library in the middle of a stream: takes input in order, in pieces of any size, and gives
/// output. One user at a time. The handle is the library's own state structure, in native memory, since libraries keep
/// its address.
/// </summary>
public abstract unsafe class NativeDecoder : SafeHandle
{
    /// <summary>Makes the zeroed state structure.</summary>
    protected NativeDecoder(int stateSize)
        : base(0, ownsHandle: true) => SetHandle((nint)NativeMemory.AllocZeroed((nuint)stateSize));

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The library's word for what is wrong, after anything but More and End.</summary>
    public string Error { get; protected set; } = "";

    /// <summary>
    /// Decodes as much as input and room allow. Neither taken nor given with More: it cannot go on with what it has.
    /// </summary>
    /// <param name="stored">Input.</param>
    /// <param name="decoded">Room for output; may be empty.</param>
    /// <param name="taken">Bytes of input used up.</param>
    /// <param name="given">Bytes of output made.</param>
    public NativeDecodeStatus Decode(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given)
    {
        byte nothing = 0;

        // SAFETY: the pointers are used during the call only, each with its span's own length; an empty span is given
        // an address too, because some libraries refuse a null pointer whatever the length.
        fixed (byte* from = stored)
        fixed (byte* to = decoded)
        {
            NativeDecodeStatus status = Decode(
                from == null ? &nothing : from, stored.Length, to == null ? &nothing : to, decoded.Length, out taken,
                out given);
            GC.KeepAlive(this); // Not to be finalized while the library works on the structure.
            return status;
        }
    }

    /// <summary>True when a shared library is installed and can be loaded.</summary>
    internal static bool CanLoad(string fileName) => NativeLibrary.TryLoad(fileName, out _);

    /// <summary>Calls the library.</summary>
    private protected abstract NativeDecodeStatus Decode(
        byte* from, int stored, byte* to, int room, out int taken, out int given);

    /// <summary>Gives back what the library allocated for the state structure.</summary>
    private protected abstract void End();

    /// <inheritdoc/>
    protected sealed override bool ReleaseHandle()
    {
        End();
        NativeMemory.Free((void*)handle);
        return true;
    }
}
