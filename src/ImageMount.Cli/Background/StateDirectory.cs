using System.Globalization;
using ImageMount.Interop;

namespace ImageMount.Cli.Background;

/// <summary>
/// Where each mount leaves a note: /run/imgmount for root, $XDG_RUNTIME_DIR/imgmount (else /tmp/imgmount-UID) for
/// others; one file a mount, PID.json, written by the process that serves it. It removes the file when the image was
/// closed properly, and otherwise leaves it with the reason; a crash leaves it as it was. So whoever waits for the
/// process to end learns from the file how it ended.
/// </summary>
public sealed class StateDirectory(string path)
{
    /// <summary>The directory of the current user.</summary>
    public static StateDirectory Default { get; } = new(DefaultPath());

    /// <summary>Its path.</summary>
    public string Path { get; } = path;

    /// <summary>The file of a process.</summary>
    public string FileOf(int pid) =>
        System.IO.Path.Join(Path, string.Create(CultureInfo.InvariantCulture, $"{pid}.json"));

    /// <summary>Where a mount logs unless told otherwise.</summary>
    public string LogFileOf(int pid) =>
        System.IO.Path.Join(Path, string.Create(CultureInfo.InvariantCulture, $"{pid}.log"));

    /// <summary>
    /// Writes a note; readers see the old one or the new one. Throws IOException and UnauthorizedAccessException.
    /// </summary>
    public void Write(MountState state)
    {
        const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        UnixFileMode mode = SysUser.EffectiveId == 0
            ? Owner | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead
                | UnixFileMode.OtherExecute
            : Owner;
        if (OperatingSystem.IsWindows())
        {
            throw new PlatformNotSupportedException("mounting through FUSE is for Linux");
        }

        Directory.CreateDirectory(Path, mode);
        if (Stat.TryGet(Path, out StatInfo info, noFollow: true) != 0 || !info.IsDirectory
            || info.Uid != SysUser.EffectiveId)
        {
            throw new IOException($"{Path} is not a directory of this user; remove it");
        }

        string file = FileOf(state.Pid);
        string temporary = file + ".new";
        File.WriteAllBytes(temporary, CliJson.Write(state));
        File.Move(temporary, file, overwrite: true);
    }

    /// <summary>Reads the note of a process; null when there is none that can be read.</summary>
    public MountState? Read(int pid) => ReadFile(FileOf(pid));

    /// <summary>Removes the note of a process.</summary>
    public void Remove(int pid)
    {
        try
        {
            File.Delete(FileOf(pid));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not ours, or gone with its directory.
        }
    }

    /// <summary>All notes, oldest mount first.</summary>
    public IReadOnlyList<MountState> ReadAll()
    {
        if (!Directory.Exists(Path))
        {
            return [];
        }

        return
        [
            .. Directory.EnumerateFiles(Path, "*.json").Select(ReadFile).OfType<MountState>().OrderBy(s => s.Started),
        ];
    }

    private static MountState? ReadFile(string file)
    {
        try
        {
            return new FileInfo(file).Length > CliJson.MaxSize
                ? null
                : CliJson.ReadState(File.ReadAllBytes(file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string DefaultPath()
    {
        if (SysUser.EffectiveId == 0)
        {
            return "/run/imgmount";
        }

        string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        return !string.IsNullOrEmpty(runtime) && Directory.Exists(runtime)
            ? System.IO.Path.Join(runtime, "imgmount")
            : string.Create(CultureInfo.InvariantCulture, $"/tmp/imgmount-{SysUser.EffectiveId}");
    }
}
