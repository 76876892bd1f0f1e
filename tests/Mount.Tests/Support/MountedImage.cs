namespace ImageMount.Mount.Tests.Support;

/// <summary>A mount in use. Unmounting it is the test's business: what is left goes away with the box.</summary>
public sealed class MountedImage(string point, int processId)
{
    public string Point { get; } = point;

    /// <summary>The background process that serves the mount.</summary>
    public int ProcessId { get; } = processId;

    /// <summary>The whole disk.</summary>
    public string Disk => Path.Combine(Point, "disk.raw");

    public string this[string name] => Path.Combine(Point, name);

    /// <summary>imgmount umount, which must succeed and leave neither mount nor process.</summary>
    public void Unmount()
    {
        ToolResult result = TryUnmount();
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.False(MountBox.IsMounted(Point), $"still mounted after a successful umount: {Point}");
        // The promise of umount: when it returns, the image is flushed, closed and unlocked. No waiting here.
        Assert.False(
            Processes.HoldsFiles(ProcessId, Path.GetDirectoryName(Point)!),
            $"process {ProcessId} still holds files after umount returned");
    }

    public ToolResult TryUnmount() => Tool.Try(Tool.Imgmount, "umount", Point);
}
