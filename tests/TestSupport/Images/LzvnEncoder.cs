namespace ImageMount.TestSupport.Images;

/// <summary>Makes the LZVN blocks of LZFSE streams, with every kind of code that fits.</summary>
public static class LzvnEncoder
{
    /// <summary>The codes of a block, without its header.</summary>
    /// <param name="plain">What it decodes to.</param>
    public static byte[] Encode(ReadOnlySpan<byte> plain)
    {
        var codes = new List<byte>();
        int at = 0;
        int before = 0;
        foreach (LzTriplet step in LzTriplets.Find(plain, 4, 260, 65535, 271))
        {
            int literals = step.Literals;
            int match = step.Match;
            bool same = step.Distance == before && match > 0;

            // Literals that do not fit into the code of the match, and all of them where the match has no room for any.
            if (literals > 3 || match == 0 || same && match > 10 || step.Distance >= 16384)
            {
                AddLiterals(codes, plain.Slice(at, literals));
                at += literals;
                literals = 0;
            }

            if (match > 0)
            {
                int first = Math.Min(match, FirstMatch(step.Distance, same));
                if (same && first > 10)
                {
                    first = 0;
                }
                else
                {
                    AddMatch(codes, literals, first, step.Distance, same);
                    codes.AddRange(plain.Slice(at, literals));
                    at += literals + first;
                }

                before = step.Distance;
                AddRest(codes, match - first);
                at += match - first;
            }
        }

        codes.AddRange([6, 0, 0, 0, 0, 0, 0, 0]);
        return [.. codes];
    }

    private static int FirstMatch(int distance, bool same) =>
        same ? 271 : distance < 1536 ? 10 : distance < 16384 ? 34 : 10;

    private static void AddLiterals(List<byte> codes, ReadOnlySpan<byte> literals)
    {
        if (literals.IsEmpty)
        {
            return;
        }

        if (literals.Length < 16)
        {
            codes.Add((byte)(0xe0 | literals.Length));
        }
        else
        {
            codes.AddRange([0xe0, (byte)(literals.Length - 16)]);
        }

        codes.AddRange(literals);
    }

    private static void AddMatch(List<byte> codes, int literals, int match, int distance, bool same)
    {
        if (same)
        {
            int code = literals << 6 | match - 3 << 3 | 6;
            if (literals > 0 && IsFree(code))
            {
                codes.Add((byte)code);
                return;
            }
        }

        if (match <= 10 && distance < 1536)
        {
            int code = literals << 6 | match - 3 << 3 | distance >> 8;
            if (IsFree(code))
            {
                codes.AddRange([(byte)code, (byte)distance]);
                return;
            }
        }

        if (distance < 16384)
        {
            int length = match - 3;
            codes.AddRange(
                [(byte)(0xa0 | literals << 3 | length >> 2), (byte)((distance & 63) << 2 | length & 3), (byte)(distance >> 6)]);
            return;
        }

        codes.AddRange([(byte)(match - 3 << 3 | 7), (byte)distance, (byte)(distance >> 8)]);
    }

    /// <summary>False where a code of the common form is one of another form.</summary>
    private static bool IsFree(int code) => code < 0xa0 && code >> 4 != 7 || code is >= 0xc0 and < 0xd0;

    private static void AddRest(List<byte> codes, int match)
    {
        while (match > 0)
        {
            int count = Math.Min(match, 271);
            codes.AddRange(count < 16 ? [(byte)(0xf0 | count)] : [0xf0, (byte)(count - 16)]);
            match -= count;
        }
    }
}
