using System.Buffers.Binary;
using System.Numerics;

namespace ImageMount.TestSupport.Images;

/// <summary>
/// Makes LZFSE streams from the description of the format: plain blocks, LZVN blocks, and both forms of entropy-coded
/// ones. Not a good compressor; a complete one.
/// </summary>
public static class LzfseEncoder
{
    private const int MaxTriplets = 10_000;
    private const int MaxLiterals = 40_000;

    private static readonly int[] s_literalBits = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 8];
    private static readonly int[] s_matchBits = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11];
    private static readonly int[] s_distanceBits = [.. Enumerable.Range(0, 64).Select(i => i / 4)];

    /// <summary>A stream of one kind of blocks.</summary>
    /// <param name="plain">What it decodes to.</param>
    /// <param name="kind">'-' plain, 'n' LZVN, '1' entropy-coded with plain tables, '2' with packed ones.</param>
    public static byte[] Encode(ReadOnlySpan<byte> plain, char kind)
    {
        var stream = new MemoryStream();
        switch (kind)
        {
            case '-':
                Write(stream, 0x2d787662, (uint)plain.Length);
                stream.Write(plain);
                break;
            case 'n':
                byte[] codes = LzvnEncoder.Encode(plain);
                Write(stream, 0x6e787662, (uint)plain.Length, (uint)codes.Length);
                stream.Write(codes);
                break;
            default:
                WriteBlocks(stream, plain, kind == '2');
                break;
        }

        Write(stream, 0x24787662);
        return stream.ToArray();
    }

    private static void Write(MemoryStream stream, params uint[] numbers)
    {
        Span<byte> bytes = stackalloc byte[4];
        foreach (uint number in numbers)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes, number);
            stream.Write(bytes);
        }
    }

    private static void WriteBlocks(MemoryStream stream, ReadOnlySpan<byte> plain, bool packed)
    {
        List<LzTriplet> all = LzTriplets.Find(plain, 4, 2359, 262139, 315);
        int at = 0;
        for (int first = 0; first < all.Count;)
        {
            var literals = new List<byte>();
            int count = 0;
            int start = at;
            while (first + count < all.Count && count < MaxTriplets
                && literals.Count + all[first + count].Literals <= MaxLiterals)
            {
                LzTriplet step = all[first + count++];
                literals.AddRange(plain.Slice(at, step.Literals));
                at += step.Literals + step.Match;
            }

            WriteBlock(stream, at - start, all.GetRange(first, count), literals, packed);
            first += count;
        }
    }

    private static void WriteBlock(
        MemoryStream stream, int length, List<LzTriplet> triplets, List<byte> literals, bool packed)
    {
        while (literals.Count % 4 != 0)
        {
            literals.Add(0);
        }

        var counts = new Coder(64, s_literalBits, triplets.Select(t => t.Literals));
        var matches = new Coder(64, s_matchBits, triplets.Select(t => t.Match));
        int before = 0;
        List<int> distances = [.. triplets.Select(t =>
        {
            // 0 repeats the distance of the step before; a step without match needs one that is valid all the same.
            int distance = t.Match == 0 ? 1 : t.Distance;
            int coded = distance == before ? 0 : distance;
            before = distance;
            return coded;
        })];
        var places = new Coder(256, s_distanceBits, distances);
        var bytes = new Coder(1024, new int[256], literals.Select(b => (int)b));

        var literalBits = new BitWriter();
        var states = new int[4];
        for (int i = literals.Count - 4; i >= 0; i -= 4)
        {
            for (int k = 3; k >= 0; k--)
            {
                bytes.Encode(ref states[k], literals[i + k], literalBits);
            }
        }

        (byte[] literalPayload, int literalEnd) = literalBits.Finish([]);
        var stepBits = new BitWriter();
        int countState = 0, matchState = 0, placeState = 0;
        for (int i = triplets.Count - 1; i >= 0; i--)
        {
            places.Encode(ref placeState, distances[i], stepBits);
            matches.Encode(ref matchState, triplets[i].Match, stepBits);
            counts.Encode(ref countState, triplets[i].Literals, stepBits);
        }

        (byte[] stepPayload, int stepEnd) = stepBits.Finish(new byte[8]);
        ushort[] frequencies =
            [.. counts.Frequencies, .. matches.Frequencies, .. places.Frequencies, .. bytes.Frequencies];
        if (packed)
        {
            byte[] table = Pack(frequencies);
            Write(stream, 0x32787662, (uint)length);
            Write64(stream, [(literals.Count, 0), (literalPayload.Length, 20), (triplets.Count, 40), (literalEnd + 7, 60)]);
            Write64(stream, [(states[0], 0), (states[1], 10), (states[2], 20), (states[3], 30), (stepPayload.Length, 40),
                (stepEnd + 7, 60)]);
            Write64(stream, [(32 + table.Length, 0), (countState, 32), (matchState, 42), (placeState, 52)]);
            stream.Write(table);
        }
        else
        {
            Write(stream, 0x31787662, (uint)length, (uint)(literalPayload.Length + stepPayload.Length),
                (uint)literals.Count, (uint)triplets.Count, (uint)literalPayload.Length, (uint)stepPayload.Length,
                (uint)literalEnd);
            Write16(stream, [.. states.Select(s => (ushort)s)]);
            Write(stream, (uint)stepEnd);
            Write16(stream, [(ushort)countState, (ushort)matchState, (ushort)placeState, .. frequencies, 0]);
        }

        stream.Write(literalPayload);
        stream.Write(stepPayload);
    }

    private static void Write16(MemoryStream stream, ushort[] numbers)
    {
        foreach (ushort number in numbers)
        {
            stream.Write([(byte)number, (byte)(number >> 8)]);
        }
    }

    private static void Write64(MemoryStream stream, (int Value, int Shift)[] fields)
    {
        ulong number = fields.Aggregate(0UL, (sum, field) => sum + ((ulong)(uint)field.Value << field.Shift));
        Write(stream, (uint)number, (uint)(number >> 32));
    }

    private static byte[] Pack(ushort[] frequencies)
    {
        var bits = new BitWriter();
        foreach (int f in frequencies)
        {
            (int value, int width) = f switch
            {
                0 => (0, 2),
                1 => (2, 2),
                2 => (1, 3),
                3 => (5, 3),
                < 8 => (3 | f - 4 << 3, 5),
                < 24 => (7 | f - 8 << 4, 8),
                _ => (15 | f - 24 << 4, 14),
            };
            bits.Push((uint)value, width);
        }

        return bits.Finish([]).Bytes;
    }

    /// <summary>Finite state entropy of one alphabet, with the bits of values that are no symbols.</summary>
    private sealed class Coder
    {
        private readonly int _states;
        private readonly int[] _bits;
        private readonly int[] _lowest;
        private readonly int[] _offsets;

        public Coder(int states, int[] extraBits, IEnumerable<int> values)
        {
            _states = states;
            _bits = extraBits;
            _lowest = new int[extraBits.Length];
            for (int i = 1; i < extraBits.Length; i++)
            {
                _lowest[i] = extraBits.Length == 256 ? i : _lowest[i - 1] + (1 << extraBits[i - 1]);
            }

            var occurrences = new long[extraBits.Length];
            foreach (int value in values)
            {
                occurrences[SymbolOf(value)]++;
            }

            Frequencies = Normalise(occurrences, states);
            _offsets = new int[Frequencies.Length];
            for (int i = 1; i < Frequencies.Length; i++)
            {
                _offsets[i] = _offsets[i - 1] + Frequencies[i - 1];
            }
        }

        public ushort[] Frequencies { get; }

        public void Encode(ref int state, int value, BitWriter bits)
        {
            int symbol = SymbolOf(value);
            bits.Push((uint)(value - _lowest[symbol]), _bits[symbol]);
            int frequency = Frequencies[symbol];
            int shift = BitOperations.Log2((uint)_states) - BitOperations.Log2((uint)frequency);
            int width = state >= (frequency << shift) - _states ? shift : shift - 1;
            bits.Push((uint)(state & (1 << width) - 1), width);
            state = _offsets[symbol] - frequency + (_states >> width) + (state >> width);
        }

        private static ushort[] Normalise(long[] occurrences, int states)
        {
            long total = Math.Max(1, occurrences.Sum());
            int[] scaled = [.. occurrences.Select(n => n == 0 ? 0 : Math.Max(1, (int)(n * states / total)))];
            for (int excess = scaled.Sum() - states; excess != 0; excess = scaled.Sum() - states)
            {
                int largest = Array.IndexOf(scaled, scaled.Max());
                scaled[largest] -= excess > 0 ? Math.Min(excess, Math.Max(1, scaled[largest] / 2)) : excess;
            }

            return [.. scaled.Select(f => (ushort)f)];
        }

        private int SymbolOf(int value)
        {
            int symbol = Array.BinarySearch(_lowest, value);
            return symbol >= 0 ? symbol : ~symbol - 1;
        }
    }

    /// <summary>Bits from the lowest up; the last byte is filled with zeroes.</summary>
    private sealed class BitWriter
    {
        private readonly List<byte> _bytes = [];
        private ulong _bits;
        private int _count;

        public void Push(uint value, int width)
        {
            _bits |= (ulong)value << _count;
            _count += width;
            while (_count >= 8)
            {
                _bytes.Add((byte)_bits);
                _bits >>= 8;
                _count -= 8;
            }
        }

        /// <summary>The bytes after a prefix, and how many bits of the last are used, less 8 (0: all).</summary>
        public (byte[] Bytes, int End) Finish(byte[] prefix)
        {
            int end = _count == 0 ? 0 : _count - 8;
            Push(0, (8 - _count) & 7);
            return ([.. prefix, .. _bytes], end);
        }
    }
}
