using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// The entropy-coded block of LZFSE streams: all its literals in one stream of bits, and triplets (literals to copy,
/// match length, match distance) in another. Both are read backwards, with tables of finite state entropy that the
/// header describes by how often each symbol occurs.
/// </summary>
internal sealed class LzfseBlock
{
    private const int LiteralStates = 1024;
    private const int LengthStates = 64;
    private const int DistanceStates = 256;
    private const int LiteralSymbols = 256;
    private const int LengthSymbols = 20;
    private const int DistanceSymbols = 64;
    private const int FrequencyCount = LengthSymbols + LengthSymbols + DistanceSymbols + LiteralSymbols;
    private const int MaxTriplets = 10_000;
    private const int MaxLiterals = 4 * MaxTriplets;
    private const int PlainHeaderSize = 772;
    private const int PackedHeaderSize = 32;

    [ThreadStatic]
    private static LzfseBlock? _scratch;

    private readonly ushort[] _frequencies = new ushort[FrequencyCount];
    private readonly FseEntry[] _literalTable = new FseEntry[LiteralStates];
    private readonly FseEntry[] _literalCountTable = new FseEntry[LengthStates];
    private readonly FseEntry[] _matchTable = new FseEntry[LengthStates];
    private readonly FseEntry[] _distanceTable = new FseEntry[DistanceStates];
    private readonly byte[] _literals = new byte[MaxLiterals];

    private static ReadOnlySpan<byte> LiteralCountBits =>
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 8];

    private static ReadOnlySpan<byte> MatchBits =>
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11];

    /// <summary>Decodes a block.</summary>
    /// <param name="stored">The whole stream: the last bits of a block are read with bytes from before it.</param>
    /// <param name="start">Where in it the block begins.</param>
    /// <param name="isPacked">True for the form whose header is packed.</param>
    /// <param name="output">The stream's output up to where the block must end.</param>
    /// <param name="at">Where in it the block begins.</param>
    /// <returns>Bytes of the block.</returns>
    public static int Decode(ReadOnlySpan<byte> stored, int start, bool isPacked, Span<byte> output, int at)
    {
        LzfseBlock scratch = _scratch ??= new LzfseBlock();
        ReadOnlySpan<byte> block = stored[start..];
        Facts facts = isPacked ? scratch.ReadPackedHeader(block) : scratch.ReadPlainHeader(block);
        if (facts.Literals > MaxLiterals || facts.Literals % 4 != 0 || facts.Triplets > MaxTriplets
            || (long)facts.LiteralBytes + facts.TripletBytes > block.Length - facts.HeaderSize)
        {
            throw Damaged("the header of a block is impossible");
        }

        scratch.MakeTables(facts);
        int literalEnd = start + facts.HeaderSize + (int)facts.LiteralBytes;
        scratch.ReadLiterals(stored[..literalEnd], facts);
        int end = literalEnd + (int)facts.TripletBytes;
        scratch.Execute(stored[..end], facts, output, at);
        return end - start;
    }

    private static BlockException Damaged(string how) => LzfseDecoder.Damaged(how, 0, 0);

    private static int Bits(ulong value, int first, int count) => (int)(value >> first & (1UL << count) - 1);

    private Facts ReadPlainHeader(ReadOnlySpan<byte> block)
    {
        if (block.Length < PlainHeaderSize)
        {
            throw Damaged("the header of a block is cut off");
        }

        uint literalBits = BinaryPrimitives.ReadUInt32LittleEndian(block[28..]);
        uint tripletBits = BinaryPrimitives.ReadUInt32LittleEndian(block[40..]);
        for (int i = 0; i < FrequencyCount; i++)
        {
            _frequencies[i] = BinaryPrimitives.ReadUInt16LittleEndian(block[(50 + 2 * i)..]);
        }

        ulong states = BinaryPrimitives.ReadUInt64LittleEndian(block[32..]);
        return new Facts
        {
            HeaderSize = PlainHeaderSize,
            Literals = BinaryPrimitives.ReadUInt32LittleEndian(block[12..]),
            Triplets = BinaryPrimitives.ReadUInt32LittleEndian(block[16..]),
            LiteralBytes = BinaryPrimitives.ReadUInt32LittleEndian(block[20..]),
            TripletBytes = BinaryPrimitives.ReadUInt32LittleEndian(block[24..]),
            LiteralBits = (int)literalBits,
            TripletBits = (int)tripletBits,
            State0 = Bits(states, 0, 16),
            State1 = Bits(states, 16, 16),
            State2 = Bits(states, 32, 16),
            State3 = Bits(states, 48, 16),
            LiteralCountState = BinaryPrimitives.ReadUInt16LittleEndian(block[44..]),
            MatchState = BinaryPrimitives.ReadUInt16LittleEndian(block[46..]),
            DistanceState = BinaryPrimitives.ReadUInt16LittleEndian(block[48..]),
        };
    }

    private Facts ReadPackedHeader(ReadOnlySpan<byte> block)
    {
        if (block.Length < PackedHeaderSize)
        {
            throw Damaged("the header of a block is cut off");
        }

        ulong first = BinaryPrimitives.ReadUInt64LittleEndian(block[8..]);
        ulong second = BinaryPrimitives.ReadUInt64LittleEndian(block[16..]);
        ulong third = BinaryPrimitives.ReadUInt64LittleEndian(block[24..]);
        uint headerSize = (uint)third;
        if (headerSize < PackedHeaderSize || headerSize > block.Length)
        {
            throw Damaged("the header of a block is cut off");
        }

        ReadFrequencies(block[PackedHeaderSize..(int)headerSize]);
        return new Facts
        {
            HeaderSize = (int)headerSize,
            Literals = (uint)Bits(first, 0, 20),
            LiteralBytes = (uint)Bits(first, 20, 20),
            Triplets = (uint)Bits(first, 40, 20),
            LiteralBits = Bits(first, 60, 3) - 7,
            State0 = Bits(second, 0, 10),
            State1 = Bits(second, 10, 10),
            State2 = Bits(second, 20, 10),
            State3 = Bits(second, 30, 10),
            TripletBytes = (uint)Bits(second, 40, 20),
            TripletBits = Bits(second, 60, 3) - 7,
            LiteralCountState = Bits(third, 32, 10),
            MatchState = Bits(third, 42, 10),
            DistanceState = Bits(third, 52, 10),
        };
    }

    /// <summary>Frequencies as a prefix code, lowest bit first; short for the small ones.</summary>
    private void ReadFrequencies(ReadOnlySpan<byte> packed)
    {
        Array.Clear(_frequencies);
        if (packed.IsEmpty)
        {
            return; // Left out: there is nothing to decode with them.
        }

        uint bits = 0;
        int count = 0;
        int next = 0;
        for (int i = 0; i < FrequencyCount; i++)
        {
            while (count <= 24 && next < packed.Length)
            {
                bits |= (uint)packed[next++] << count;
                count += 8;
            }

            (uint value, int width) = (bits & 15) switch
            {
                15 => (24 + (bits >> 4 & 0x3ff), 14),
                7 => (8 + (bits >> 4 & 15), 8),
                3 or 11 => (4 + (bits >> 3 & 3), 5),
                1 or 9 => (2u, 3),
                5 or 13 => (3u, 3),
                var other => (other >> 1 & 1, 2),
            };
            if (width > count)
            {
                throw Damaged("the tables of a block are cut off");
            }

            _frequencies[i] = (ushort)value;
            bits >>= width;
            count -= width;
        }

        if (count >= 8 || next != packed.Length)
        {
            throw Damaged("the tables of a block are longer than they should be");
        }
    }

    private void MakeTables(in Facts facts)
    {
        ReadOnlySpan<ushort> frequencies = _frequencies;
        bool complete = facts.Triplets == 0
            || (MakeTable(_literalCountTable, frequencies[..LengthSymbols], LiteralCountBits)
                & MakeTable(_matchTable, frequencies.Slice(LengthSymbols, LengthSymbols), MatchBits)
                & MakeTable(_distanceTable, frequencies.Slice(2 * LengthSymbols, DistanceSymbols), []));
        complete &= facts.Literals == 0
            || MakeTable(_literalTable, frequencies[^LiteralSymbols..], []);
        if (!complete
            || facts.LiteralCountState >= LengthStates || facts.MatchState >= LengthStates
            || facts.DistanceState >= DistanceStates
            || Math.Max(Math.Max(facts.State0, facts.State1), Math.Max(facts.State2, facts.State3)) >= LiteralStates)
        {
            throw Damaged("the tables of a block are impossible");
        }
    }

    /// <summary>
    /// Fills a table of states. A symbol has as many states as its frequency says; from each the next state is reached
    /// with a few bits, one more for the first of them than for the others. False: they do not fill the table.
    /// </summary>
    /// <param name="table">One entry a state.</param>
    /// <param name="frequencies">States of each symbol.</param>
    /// <param name="extraBits">
    /// Bits of the value that follow those of the state, by symbol; its lowest value goes on from the one before.
    /// Empty: the symbol is the value, or, for 64 symbols, a distance, whose bits grow by one every four symbols.
    /// </param>
    private static bool MakeTable(Span<FseEntry> table, ReadOnlySpan<ushort> frequencies, ReadOnlySpan<byte> extraBits)
    {
        int states = table.Length;
        int filled = 0;
        int lowest = 0;
        for (int symbol = 0; symbol < frequencies.Length; symbol++)
        {
            int extra = !extraBits.IsEmpty ? extraBits[symbol]
                : frequencies.Length == DistanceSymbols ? symbol / 4 : 0;
            int count = frequencies[symbol];
            if (count > states - filled)
            {
                return false;
            }

            if (count > 0)
            {
                int shift = System.Numerics.BitOperations.Log2((uint)states)
                    - System.Numerics.BitOperations.Log2((uint)count);
                int longer = (2 * states >> shift) - count;
                for (int i = 0; i < count; i++)
                {
                    bool isLonger = i < longer;
                    int bits = isLonger ? shift : shift - 1;
                    int next = isLonger ? ((count + i) << shift) - states : (i - longer) << (shift - 1);
                    table[filled++] = new FseEntry((byte)(bits + extra), (byte)extra, (ushort)next, lowest);
                }
            }

            lowest += 1 << extra;
        }

        return filled == states;
    }

    private void ReadLiterals(ReadOnlySpan<byte> stored, in Facts facts)
    {
        if (facts.Literals == 0)
        {
            return;
        }

        var bits = new BackwardBits(stored, facts.LiteralBits);
        ReadOnlySpan<FseEntry> table = _literalTable;
        Span<byte> literals = _literals.AsSpan(0, (int)facts.Literals);
        int state0 = facts.State0;
        int state1 = facts.State1;
        int state2 = facts.State2;
        int state3 = facts.State3;
        for (int i = 0; i + 3 < literals.Length; i += 4)
        {
            bits.Fill(); // 56 bits; the four take 40 at most.
            literals[i] = (byte)bits.Next(table, ref state0);
            literals[i + 1] = (byte)bits.Next(table, ref state1);
            literals[i + 2] = (byte)bits.Next(table, ref state2);
            literals[i + 3] = (byte)bits.Next(table, ref state3);
        }
    }

    private void Execute(ReadOnlySpan<byte> stored, in Facts facts, Span<byte> output, int at)
    {
        ReadOnlySpan<byte> literals = _literals.AsSpan(0, (int)facts.Literals);
        var bits = facts.Triplets == 0 ? default : new BackwardBits(stored, facts.TripletBits);
        int literalState = facts.LiteralCountState;
        int matchState = facts.MatchState;
        int distanceState = facts.DistanceState;
        int distance = 0;
        for (uint i = 0; i < facts.Triplets; i++)
        {
            bits.Fill(); // 56 bits; the three take 14, 17 and 23 at most.
            int count = bits.Next(_literalCountTable, ref literalState);
            int match = bits.Next(_matchTable, ref matchState);
            int given = bits.Next(_distanceTable, ref distanceState);
            distance = given == 0 ? distance : given;
            if (count > literals.Length || count + match > output.Length - at)
            {
                throw Damaged("a block is longer than it says");
            }

            literals[..count].CopyTo(output[at..]);
            literals = literals[count..];
            at += count;
            if (match > 0)
            {
                if (distance == 0 || distance > at)
                {
                    throw Damaged("it refers to bytes before its start");
                }

                LzMatch.Copy(output, at, distance, match);
                at += match;
            }
        }

        if (at != output.Length)
        {
            throw Damaged("a block is shorter than it says");
        }
    }

    /// <summary>What the header says.</summary>
    private readonly struct Facts
    {
        public int HeaderSize { get; init; }

        public uint Literals { get; init; }

        public uint LiteralBytes { get; init; }

        public uint Triplets { get; init; }

        public uint TripletBytes { get; init; }

        /// <summary>Bits, -7…0, that the last byte of the literals has less than 8.</summary>
        public int LiteralBits { get; init; }

        public int TripletBits { get; init; }

        public int State0 { get; init; }

        public int State1 { get; init; }

        public int State2 { get; init; }

        public int State3 { get; init; }

        public int LiteralCountState { get; init; }

        public int MatchState { get; init; }

        public int DistanceState { get; init; }
    }

    /// <summary>A state: how many bits to take, how many of them are the value's, and what they are added to.</summary>
    private readonly record struct FseEntry(byte TotalBits, byte ValueBits, ushort NextState, int Value);

    /// <summary>Reads bits from the end of a span towards its start, the highest of the last byte first.</summary>
    private ref struct BackwardBits
    {
        private readonly ReadOnlySpan<byte> _source;
        private int _at;
        private ulong _bits;
        private int _count;

        public BackwardBits(ReadOnlySpan<byte> source, int lastBits)
        {
            _source = source;
            int size = lastBits == 0 ? 7 : 8;
            _at = source.Length - size;
            if (lastBits is < -7 or > 0 || _at < 1)
            {
                throw Damaged("a stream of bits is too short");
            }

            // A block has a header, so there is a byte before those seven.
            ulong last = BinaryPrimitives.ReadUInt64LittleEndian(source[^8..]);
            _bits = lastBits == 0 ? last >> 8 : last;
            _count = 8 * size + lastBits;
            if (_bits >> _count != 0)
            {
                throw Damaged("a stream of bits does not end where it says");
            }
        }

        /// <summary>Sees to it that there are at least 56 bits.</summary>
        public void Fill()
        {
            int count = 63 - _count & -8;
            if (count == 0)
            {
                return; // Also where there are not eight bytes to the end.
            }

            int at = _at - count / 8;
            if (at < 0)
            {
                throw Damaged("a stream of bits is too short");
            }

            ulong more = BinaryPrimitives.ReadUInt64LittleEndian(_source[at..]);
            _bits = _bits << count | more & (1UL << count) - 1;
            _count += count;
            _at = at;
        }

        /// <summary>The value of a state, which goes on to the next.</summary>
        public int Next(ReadOnlySpan<FseEntry> table, ref int state)
        {
            FseEntry entry = table[state];
            _count -= entry.TotalBits;
            uint taken = (uint)(_bits >> _count);
            _bits &= (1UL << _count) - 1;
            state = entry.NextState + (int)(taken >> entry.ValueBits);
            return entry.Value + (int)(taken & (1u << entry.ValueBits) - 1);
        }
    }
}
