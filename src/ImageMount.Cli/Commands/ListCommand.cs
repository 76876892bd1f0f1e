using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Fuse.Mount;
using ImageMount.Mounting.Reports;

namespace ImageMount.Cli.Commands;

/// <summary>
/// `imgmount list`: the notes of the state directory, compared with the mount table and the running processes.
/// </summary>
internal static class ListCommand
{
    public static int Run(ListArguments arguments)
    {
        Arguments.NoMore(arguments.Rest, "list");
        IReadOnlyList<Row> rows = Collect(StateDirectory.Default.ReadAll(), MountTable.ReadFuse());
        if (arguments.Json)
        {
            Console.Out.Write(System.Text.Encoding.UTF8.GetString(Json(rows)));
            return ExitCode.Done;
        }

        if (rows.Count == 0)
        {
            Console.Out.WriteLine("No image is mounted.");
            return ExitCode.Done;
        }

        var table = new PlainTable("SOURCE", "MOUNTPOINT", "FORMAT", "MODE", "PID", "STATE");
        foreach (Row row in rows)
        {
            table.Add(
                row.Source, row.MountPoint, row.Format, row.ReadOnly ? "ro" : row.Overlay ? "overlay" : "rw",
                row.Pid == 0 ? "?" : PlainTable.Number(row.Pid),
                row.Prefetch is { } prefetch && row.State == "mounted" ? $"mounted, prefetch {prefetch}" : row.State);
        }

        table.Write();
        foreach (Row row in rows.Where(r => r.Failure is not null))
        {
            Messages.Warn($"{row.MountPoint}: {row.Failure}");
        }

        return ExitCode.Done;
    }

    private static List<Row> Collect(IReadOnlyList<MountState> notes, IReadOnlyList<MountEntry> mounts)
    {
        var rows = new List<Row>();
        foreach (MountState note in notes)
        {
            bool isRunning = ServerProcess.IsRunning(note);
            bool isMounted = mounts.Any(m => m.MountPoint == note.MountPoint);
            string state = (note.Failure, isRunning, isMounted) switch
            {
                (not null, false, _) => "failed",
                (_, true, true) => "mounted",
                (_, true, false) => "closing",
                (_, false, true) => "dead",
                _ => "crashed",
            };
            rows.Add(new Row(
                note.Source, note.MountPoint, note.Format, note.ReadOnly, note.Overlay, note.Cache, note.Pid, state,
                note.Started, note.Failure, note.Prefetch));
        }

        // Mounts of other users, or whose note is lost.
        foreach (MountEntry mount in mounts.Where(m => notes.All(n => n.MountPoint != m.MountPoint)))
        {
            string state = MountTable.IsDeadMount(mount.MountPoint) ? "dead" : "mounted";
            rows.Add(new Row(
                mount.Source, mount.MountPoint, "?", mount.IsReadOnly, false, null, 0, state, null, null, null));
        }

        return rows;
    }

    private static byte[] Json(IReadOnlyList<Row> rows) => ReportJson.Make(json =>
    {
        json.WriteStartArray();
        foreach (Row row in rows)
        {
            json.WriteStartObject();
            json.WriteString("source", row.Source);
            json.WriteString("mountpoint", row.MountPoint);
            json.WriteString("format", row.Format);
            json.WriteBoolean("read-only", row.ReadOnly);
            json.WriteBoolean("snapshot", row.Overlay);
            json.WriteString("cache", row.Cache);
            json.WriteNumber("pid", row.Pid);
            json.WriteString("state", row.State);
            if (row.Started is { } started)
            {
                json.WriteString("started", started);
            }

            if (row.Prefetch is not null)
            {
                json.WriteString("prefetch", row.Prefetch);
            }

            if (row.Failure is not null)
            {
                json.WriteString("failure", row.Failure);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    private sealed record Row(
        string Source, string MountPoint, string Format, bool ReadOnly, bool Overlay, string? Cache, int Pid,
        string State, DateTimeOffset? Started, string? Failure, string? Prefetch);
}
