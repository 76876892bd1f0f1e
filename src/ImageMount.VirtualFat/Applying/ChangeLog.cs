using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Applying;

/// <summary>What a step does.</summary>
internal enum StepKind : byte
{
    /// <summary>Renames to a free name.</summary>
    Move = 1,

    /// <summary>Lets two names change places.</summary>
    Exchange = 2,

    /// <summary>Removes an empty folder.</summary>
    RemoveFolder = 3,

    /// <summary>Sets mode and time.</summary>
    SetFacts = 4,
}

/// <summary>
/// One change of names. It says what must be where before, so that it can be seen later whether it was done.
/// </summary>
internal sealed record ChangeStep
{
    /// <summary>What is done.</summary>
    public required StepKind Kind { get; init; }

    /// <summary>What it is done to.</summary>
    public required HostPath From { get; init; }

    /// <summary>What that is.</summary>
    public required HostIdentity FromIs { get; init; }

    /// <summary>The other name; for a folder to be removed, the place that it had, should it have to be
    /// kept.</summary>
    public HostPath To { get; init; } = HostPath.Root;

    /// <summary>What stands there, where names change places.</summary>
    public HostIdentity ToIs { get; init; }

    /// <summary>Permission bits to set; negative: none.</summary>
    public int Mode { get; init; } = -1;

    /// <summary>True when <see cref="ModifiedNs"/> is to be set.</summary>
    public bool SetsTime { get; init; }

    /// <summary>When it was last written, nanoseconds since 1970.</summary>
    public long ModifiedNs { get; init; }
}

/// <summary>A file that is not needed any more when all steps are done.</summary>
/// <param name="Path">Where it is then.</param>
/// <param name="Is">What it is. Should it have become something else, somebody changed it meanwhile.</param>
/// <param name="Place">Where it came from, and goes back to under another name in that case.</param>
internal readonly record struct ChangeGarbage(HostPath Path, HostIdentity Is, HostPath Place);

/// <summary>
/// All steps of one applying. It is written down, with everything new in the staging folder beside it, before the
/// first step is done; from then on the rest can be done at any time, by anybody, without the disk.
/// </summary>
/// <param name="Id">Name of the staging folder without its prefix.</param>
/// <param name="JournalPath">Journal that has to know of it too, and decides whether it counts; empty when there is
/// none.</param>
/// <param name="Steps">In order.</param>
/// <param name="Garbage">What is removed afterwards.</param>
internal sealed record ChangeLog(
    string Id, string JournalPath, IReadOnlyList<ChangeStep> Steps, IReadOnlyList<ChangeGarbage> Garbage)
{
    /// <summary>Largest log that is read, bytes.</summary>
    public const int MaxSize = 1 << 30;

    private const int HashSize = 32;
    private const int MaxPath = 1 << 20;
    private static readonly byte[] Magic = "imgmount folder changes 1\n"u8.ToArray();

    /// <summary>As bytes, with a hash at the end.</summary>
    public byte[] Write()
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(Magic);
        writer.Write(Id);
        writer.Write(JournalPath);
        writer.Write(Steps.Count);
        foreach (ChangeStep step in Steps)
        {
            writer.Write((byte)step.Kind);
            writer.Write(step.From.Raw);
            Write(writer, step.FromIs);
            writer.Write(step.To.Raw);
            Write(writer, step.ToIs);
            writer.Write(step.Mode);
            writer.Write(step.SetsTime);
            writer.Write(step.ModifiedNs);
        }

        writer.Write(Garbage.Count);
        foreach (ChangeGarbage garbage in Garbage)
        {
            writer.Write(garbage.Path.Raw);
            Write(writer, garbage.Is);
            writer.Write(garbage.Place.Raw);
        }

        writer.Flush();
        writer.Write(SHA256.HashData(stream.GetBuffer().AsSpan(0, (int)stream.Length)));
        writer.Flush();
        return stream.ToArray();
    }

    /// <summary>Reads one.</summary>
    /// <param name="bytes">What was written.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="BlockException">It is not what was written.</exception>
    public static ChangeLog Parse(byte[] bytes, string name)
    {
        int length = bytes.Length - HashSize;
        if (length < Magic.Length || !bytes.AsSpan(0, Magic.Length).SequenceEqual(Magic)
            || !SHA256.HashData(bytes.AsSpan(0, length)).AsSpan().SequenceEqual(bytes.AsSpan(length)))
        {
            throw Damaged(name, "it is not what was written");
        }

        try
        {
            using var stream = new MemoryStream(bytes, Magic.Length, length - Magic.Length, writable: false);
            using var reader = new BinaryReader(stream, Encoding.UTF8);
            string id = reader.ReadString();
            string journal = reader.ReadString();
            var steps = new List<ChangeStep>();
            for (int left = Count(reader, name, length); left > 0; left--)
            {
                steps.Add(new ChangeStep
                {
                    Kind = (StepKind)reader.ReadByte(),
                    From = ReadPath(reader, name),
                    FromIs = ReadIdentity(reader),
                    To = ReadPath(reader, name),
                    ToIs = ReadIdentity(reader),
                    Mode = reader.ReadInt32(),
                    SetsTime = reader.ReadBoolean(),
                    ModifiedNs = reader.ReadInt64(),
                });
            }

            var garbage = new List<ChangeGarbage>();
            for (int left = Count(reader, name, length); left > 0; left--)
            {
                garbage.Add(new ChangeGarbage(ReadPath(reader, name), ReadIdentity(reader), ReadPath(reader, name)));
            }

            return new ChangeLog(id, journal, steps, garbage);
        }
        catch (Exception e) when (e is EndOfStreamException or FormatException or ArgumentException)
        {
            throw Damaged(name, "it is cut off");
        }
    }

    private static int Count(BinaryReader reader, string name, int length)
    {
        int count = reader.ReadInt32();
        return count >= 0 && count <= length ? count : throw Damaged(name, "a number in it is impossible");
    }

    private static void Write(BinaryWriter writer, HostIdentity identity)
    {
        writer.Write(identity.Inode);
        writer.Write(identity.Size);
        writer.Write(identity.ModifiedNs);
        writer.Write(identity.IsFolder);
    }

    private static HostIdentity ReadIdentity(BinaryReader reader) =>
        new(reader.ReadUInt64(), reader.ReadInt64(), reader.ReadInt64(), reader.ReadBoolean());

    private static HostPath ReadPath(BinaryReader reader, string name)
    {
        var path = new HostPath(reader.ReadString());
        return path.Raw.Length <= MaxPath && path.Parts.All(part => new HostPath(part).IsName)
            ? path
            : throw Damaged(name, "a path in it leads out of the folder");
    }

    private static BlockException Damaged(string name, string what) =>
        new(BlockErrorKind.InvalidData, $"{name}: this is no list of changes: {what}");
}
