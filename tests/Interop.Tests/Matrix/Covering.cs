namespace ImageMount.Interop.Tests.Matrix;

/// <summary>
/// Picks few combinations of options such that every possible pair of option values occurs in one of them: faults that
/// need the interplay of two options are found with some dozens of images where all combinations would be many thousands.
/// </summary>
public static class Covering
{
    private const int CandidatesPerRow = 60;

    /// <summary>All valid combinations. Each row holds one value index per dimension.</summary>
    public static IEnumerable<int[]> All(int[] sizes, Func<int[], bool> isValid)
    {
        int[] row = new int[sizes.Length];
        while (true)
        {
            if (isValid(row))
            {
                yield return (int[])row.Clone();
            }

            int digit = 0;
            while (digit < sizes.Length && ++row[digit] == sizes[digit])
            {
                row[digit++] = 0;
            }

            if (digit == sizes.Length)
            {
                yield break;
            }
        }
    }

    /// <summary>Rows that cover every pair that any valid row can show. The same for the same seed.</summary>
    public static List<int[]> Pairs(int[] sizes, Func<int[], bool> isValid, int seed)
    {
        var random = new Random(seed);
        var open = new HashSet<(int, int, int, int)>();
        for (int a = 0; a < sizes.Length; a++)
        {
            for (int b = a + 1; b < sizes.Length; b++)
            {
                for (int x = 0; x < sizes[a]; x++)
                {
                    for (int y = 0; y < sizes[b]; y++)
                    {
                        open.Add((a, x, b, y));
                    }
                }
            }
        }

        var rows = new List<int[]>();
        foreach ((int a, int x, int b, int y) in open.ToArray())
        {
            if (!open.Contains((a, x, b, y)))
            {
                continue;
            }

            int[]? best = null;
            int bestGain = 0;
            for (int i = 0; i < CandidatesPerRow; i++)
            {
                int[]? row = Complete(sizes, isValid, random, (a, x), (b, y));
                int gain = row is null ? 0 : PairsOf(row).Count(open.Contains);
                if (gain > bestGain)
                {
                    (best, bestGain) = (row, gain);
                }
            }

            if (best is null)
            {
                open.Remove((a, x, b, y)); // no valid image shows this pair
                continue;
            }

            open.ExceptWith(PairsOf(best));
            rows.Add(best);
        }

        return rows;
    }

    /// <summary>A random valid row with two values given, or null when many attempts find none.</summary>
    private static int[]? Complete(
        int[] sizes, Func<int[], bool> isValid, Random random, (int Dimension, int Value) first,
        (int Dimension, int Value) second)
    {
        for (int attempt = 0; attempt < 200; attempt++)
        {
            int[] row = new int[sizes.Length];
            for (int i = 0; i < row.Length; i++)
            {
                // Value 0 is the permissive one (option absent): half the time, or nothing would ever be valid.
                row[i] = attempt > 20 && random.Next(2) == 0 ? 0 : random.Next(sizes[i]);
            }

            row[first.Dimension] = first.Value;
            row[second.Dimension] = second.Value;
            if (isValid(row))
            {
                return row;
            }
        }

        return null;
    }

    private static IEnumerable<(int, int, int, int)> PairsOf(int[] row)
    {
        for (int a = 0; a < row.Length; a++)
        {
            for (int b = a + 1; b < row.Length; b++)
            {
                yield return (a, row[a], b, row[b]);
            }
        }
    }
}
