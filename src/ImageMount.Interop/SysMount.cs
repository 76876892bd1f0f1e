using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>mount(2).</summary>
public static partial class SysMount
{
    public const uint MS_RDONLY = 1;
    public const uint MS_NOSUID = 2;
    public const uint MS_NODEV = 4;

    /// <summary>0 or -errno.</summary>
    public static int Mount(string source, string target, string type, nuint flags, string data) =>
        NativeMount(source, target, type, flags, data) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeMount(string source, string target, string type, nuint flags, string data);
}
