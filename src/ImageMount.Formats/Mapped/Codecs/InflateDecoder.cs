using System.Buffers;
using System.IO.Compression;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// What both deflate containers share. libdeflate decodes where it is installed; what it does not accept, and everything
/// where it is not, goes through System.IO.Compression, which can stop in the middle and says what is wrong.
/// </summary>
internal static class InflateDecoder
{
    [ThreadStatic]
    private static UnitStream? _input;

    /// <summary>Decodes a unit.</summary>
    /// <param name="stored">The stream, perhaps followed by slack.</param>
    /// <param name="decoded">Filled exactly.</param>
    /// <param name="open">Opens the container; it must leave the stream below open.</param>
    /// <param name="zlib">True for a zlib container, false for the bare stream.</param>
    /// <param name="mayBeLonger">True when output after <paramref name="decoded"/> is to be dropped, not an error.</param>
    public static void Decode(
        ReadOnlySpan<byte> stored, Span<byte> decoded, Func<Stream, Stream> open, bool zlib, bool mayBeLonger)
    {
        if (!LibDeflate.IsAvailable || !LibDeflate.TryDecode(stored, decoded, zlib))
        {
            DecodeStream(stored, decoded, open, mayBeLonger);
        }
    }

    /// <summary>The same by System.IO.Compression alone.</summary>
    internal static void DecodeStream(
        ReadOnlySpan<byte> stored, Span<byte> decoded, Func<Stream, Stream> open, bool mayBeLonger)
    {
        // Decoders only see managed streams; the copy costs a fiftieth of the inflating.
        byte[] copy = ArrayPool<byte>.Shared.Rent(stored.Length);
        UnitStream input = _input ??= new UnitStream();
        int filled = 0;
        try
        {
            stored.CopyTo(copy);
            input.Reset(copy, stored.Length);
            using Stream inflated = open(input);
            while (filled < decoded.Length)
            {
                int read = inflated.Read(decoded[filled..]);
                if (read == 0)
                {
                    throw Damaged("it ends too early", filled, decoded.Length, null);
                }

                filled += read;
            }

            // Also makes the decoder go through the end of the stream, where the zlib container has its checksum.
            Span<byte> more = stackalloc byte[1];
            if (!mayBeLonger)
            {
                if (inflated.Read(more) != 0)
                {
                    throw Damaged("it is longer than a unit", filled + 1, decoded.Length, null);
                }

                if (input.RanDry)
                {
                    throw Damaged("its end is missing", filled, decoded.Length, null);
                }
            }
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            throw Damaged(e.Message, filled, decoded.Length, e);
        }
        finally
        {
            input.Reset([], 0);
            ArrayPool<byte>.Shared.Return(copy);
        }
    }

    private static BlockException Damaged(string how, int filled, int expected, Exception? inner) =>
        new(BlockErrorKind.InvalidData, $"a deflate unit is damaged ({how})", inner)
        {
            Found = $"{filled} bytes",
            Expected = $"{expected} bytes",
        };

    /// <summary>A reusable stream over part of an array; nothing but what an inflating stream asks for.</summary>
    private sealed class UnitStream : Stream
    {
        private byte[] _bytes = [];
        private int _next;
        private int _end;

        /// <summary>True when more was asked for than there is: the decoder had not seen the end of its stream.</summary>
        public bool RanDry { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public void Reset(byte[] bytes, int count)
        {
            _bytes = bytes;
            _next = 0;
            _end = count;
            RanDry = false;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            int count = Math.Min(buffer.Length, _end - _next);
            RanDry |= count == 0;
            _bytes.AsSpan(_next, count).CopyTo(buffer);
            _next += count;
            return count;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
