using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>geteuid(2), getuid(2), getgid(2).</summary>
public static partial class SysUser
{
    /// <summary>Effective user id; 0 is root.</summary>
    public static uint EffectiveId => NativeGeteuid();

    /// <summary>Real user id.</summary>
    public static uint Id => NativeGetuid();

    /// <summary>Real group id.</summary>
    public static uint GroupId => NativeGetgid();

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial uint NativeGeteuid();

    [LibraryImport("libc", EntryPoint = "getuid")]
    private static partial uint NativeGetuid();

    [LibraryImport("libc", EntryPoint = "getgid")]
    private static partial uint NativeGetgid();
}
