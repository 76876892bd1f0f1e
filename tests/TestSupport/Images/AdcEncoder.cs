namespace ImageMount.TestSupport.Images;

/// <summary>Makes ADC streams: literals, short and long matches.</summary>
public static class AdcEncoder
{
    /// <summary>Encodes bytes.</summary>
    public static byte[] Encode(ReadOnlySpan<byte> plain)
    {
        var stored = new List<byte>();
        int at = 0;
        foreach (LzTriplet step in LzTriplets.Find(plain, 4, 67, 65536, 128))
        {
            if (step.Literals > 0)
            {
                stored.Add((byte)(0x80 | step.Literals - 1));
                stored.AddRange(plain.Slice(at, step.Literals));
                at += step.Literals;
            }

            int distance = step.Distance - 1;
            if (step.Match is > 0 and <= 18 && distance < 1024)
            {
                stored.Add((byte)(step.Match - 3 << 2 | distance >> 8));
                stored.Add((byte)distance);
            }
            else if (step.Match > 0)
            {
                stored.Add((byte)(0x40 | step.Match - 4));
                stored.Add((byte)(distance >> 8));
                stored.Add((byte)distance);
            }

            at += step.Match;
        }

        return [.. stored];
    }
}
