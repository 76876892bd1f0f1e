using ImageMount.Core.Block;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Writes a node and a flat file of the same content alike, at random, and so knows what the disk must hold. The file
/// is sparse, so that a large disk costs nothing.
/// </summary>
public sealed class ModelDisk : IDisposable
{
    private const int MaxWrite = 200 << 10;

    private readonly SafeFileHandle _flat;
    private readonly BlockNode _node;
    private readonly Random _random;
    private readonly IReadOnlyList<(long Start, long End)> _islands;
    private readonly string _name;
    private int _steps;

    public ModelDisk(
        BlockNode node, string flatPath, IReadOnlyList<(long Start, long End)> islands, int seed, string name)
    {
        _flat = File.OpenHandle(flatPath, FileMode.Open, FileAccess.ReadWrite);
        _node = node;
        _random = new Random(seed);
        _islands = islands;
        _name = name;
    }

    /// <summary>What was last begun, for messages about a hang.</summary>
    public string LastStep { get; private set; } = "";

    /// <summary>One random request, or a handful at once.</summary>
    public async Task StepAsync()
    {
        (long at, int count) = Place();
        int kind = _random.Next(10);
        LastStep = $"step {++_steps}: kind {kind} at 0x{at:x}+0x{count:x}";
        switch (kind)
        {
            case 0:
                await ZeroAsync(at, count, ZeroFlags.None);
                break;
            case 1:
                await ZeroAsync(at, count, ZeroFlags.MayUnmap);
                break;
            case 2:
                await DiscardAsync(at, count);
                break;
            case 3:
                await _node.FlushAsync();
                break;
            case 4:
            case 5:
                await WriteManyAsync(at, count);
                break;
            case 6:
                await CompareAsync(at, count);
                break;
            default:
                await WriteAsync(at, Bytes(count), _random.Next(8) == 0 ? WriteFlags.Fua : WriteFlags.None);
                break;
        }
    }

    public void Dispose() => _flat.Dispose();

    private (long At, int Count) Place()
    {
        (long start, long end) = _islands[_random.Next(_islands.Count)];
        end = Math.Min(end, _node.Length);
        long at = _random.NextInt64(Math.Min(start, end - 1), end);
        int limit = _random.Next(4) switch { 0 => 600, 1 => 5000, 2 => 40_000, _ => MaxWrite };
        int count = (int)Math.Min(_random.Next(1, limit), _node.Length - at);
        if (_random.Next(2) == 0)
        {
            // Half of the requests on the borders that clusters and subclusters have.
            long align = 512L << _random.Next(8);
            at &= -align;
            count = (int)Math.Min(count + align - 1 & -align, _node.Length - at);
        }

        return (at, count);
    }

    private byte[] Bytes(int count)
    {
        byte[] bytes = new byte[count];
        if (_random.Next(6) != 0)
        {
            _random.NextBytes(bytes);
        }

        return bytes;
    }

    private async Task WriteAsync(long at, byte[] bytes, WriteFlags flags)
    {
        await _node.WriteAsync(at, bytes, flags);
        RandomAccess.Write(_flat, bytes, at);
    }

    /// <summary>Neighbouring writes at once, so that several want the same new cluster.</summary>
    private async Task WriteManyAsync(long at, int count)
    {
        byte[] bytes = Bytes(count);
        var tasks = new List<Task>();
        for (int from = 0; from < count;)
        {
            int part = Math.Min(count - from, _random.Next(1, count / 6 + 2));
            ReadOnlyMemory<byte> piece = bytes.AsMemory(from, part);
            long place = at + from;
            tasks.Add(Task.Run(async () => await _node.WriteAsync(place, piece)));
            from += part;
        }

        await Task.WhenAll(tasks);
        RandomAccess.Write(_flat, bytes, at);
    }

    private async Task ZeroAsync(long at, int count, ZeroFlags flags)
    {
        await _node.ZeroAsync(at, count, flags);
        RandomAccess.Write(_flat, new byte[count], at);
    }

    /// <summary>Each byte reads as before or as zero afterwards; what it is then, it has to stay.</summary>
    private async Task DiscardAsync(long at, int count)
    {
        byte[] before = new byte[count];
        byte[] after = new byte[count];
        RandomAccess.Read(_flat, before, at);
        await _node.DiscardAsync(at, count);
        await _node.ReadAsync(at, after);
        for (int i = 0; i < count; i++)
        {
            Assert.True(
                after[i] == 0 || after[i] == before[i], $"{_name}: discarded byte 0x{at + i:x} is neither zero nor old");
        }

        RandomAccess.Write(_flat, after, at);
    }

    private async Task CompareAsync(long at, int count)
    {
        byte[] expected = new byte[count];
        byte[] found = new byte[count];
        RandomAccess.Read(_flat, expected, at);
        await _node.ReadAsync(at, found);
        int same = found.AsSpan().CommonPrefixLength(expected);
        Assert.True(same == count, $"{_name}: 0x{at:x}+{count} differs from byte 0x{at + same:x} on");
    }
}
