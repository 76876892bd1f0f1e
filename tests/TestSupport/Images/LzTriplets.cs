namespace ImageMount.TestSupport.Images;

/// <summary>A step of a Lempel-Ziv coder: literals to copy, then a match to repeat (none in the last step).</summary>
public readonly record struct LzTriplet(int Literals, int Match, int Distance);

/// <summary>Finds matches, greedily, for the encoders that tests need because no peer has one.</summary>
public static class LzTriplets
{
    /// <summary>Splits bytes into steps within a format's limits.</summary>
    public static List<LzTriplet> Find(
        ReadOnlySpan<byte> plain, int minMatch, int maxMatch, int maxDistance, int maxLiterals)
    {
        var triplets = new List<LzTriplet>();
        var last = new Dictionary<uint, int>();
        int literals = 0;
        int at = 0;
        while (at < plain.Length)
        {
            int match = 0;
            int distance = 0;
            if (at + 4 <= plain.Length)
            {
                uint key = BitConverter.ToUInt32(plain[at..]);
                if (last.TryGetValue(key, out int from) && at - from <= maxDistance)
                {
                    distance = at - from;
                    int most = Math.Min(maxMatch, plain.Length - at);
                    while (match < most && plain[from + match] == plain[at + match])
                    {
                        match++;
                    }
                }

                last[key] = at;
            }

            if (match >= minMatch)
            {
                triplets.Add(new LzTriplet(literals, match, distance));
                literals = 0;
                at += match;
                continue;
            }

            at++;
            if (++literals == maxLiterals)
            {
                triplets.Add(new LzTriplet(literals, 0, 0));
                literals = 0;
            }
        }

        if (literals > 0)
        {
            triplets.Add(new LzTriplet(literals, 0, 0));
        }

        return triplets;
    }
}
