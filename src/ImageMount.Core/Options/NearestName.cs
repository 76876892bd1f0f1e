namespace ImageMount.Core.Options;

/// <summary>Finds what somebody probably meant: the candidate at the smallest edit distance.</summary>
public static class NearestName
{
    /// <summary>The nearest candidate, or null when none is near enough to be a slip of the keys.</summary>
    public static string? Find(string name, IEnumerable<string> candidates)
    {
        string? best = null;
        int bestDistance = Math.Max(2, Math.Min(name.Length, 40) / 3) + 1;
        foreach (string candidate in candidates)
        {
            // A key that only lacks, or only adds, a part at its end is nearer than its length difference says.
            bool isPart = name.Length >= 3
                && (candidate.StartsWith(name, StringComparison.OrdinalIgnoreCase)
                    || (candidate.Length >= 3 && name.StartsWith(candidate, StringComparison.OrdinalIgnoreCase)));
            int distance = Math.Min(Distance(name, candidate), isPart ? 2 : int.MaxValue);
            if (distance < bestDistance)
            {
                best = candidate;
                bestDistance = distance;
            }
        }

        return best;
    }

    /// <summary>
    /// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other, ignoring case.
    /// Texts of more than 64 characters count as far apart: nobody mistypes those, and the cost is quadratic.
    /// </summary>
    public static int Distance(string a, string b)
    {
        const int MaxLength = 64;
        if (a.Length > MaxLength || b.Length > MaxLength)
        {
            return string.Equals(a, b, StringComparison.OrdinalIgnoreCase) ? 0 : MaxLength;
        }

        a = a.ToLowerInvariant();
        b = b.ToLowerInvariant();
        var beforeLast = new int[b.Length + 1];
        var last = new int[b.Length + 1];
        var current = new int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++)
        {
            last[j] = j;
        }

        for (int i = 1; i <= a.Length; i++)
        {
            current[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int cost = a[i - 1] == b[j - 1] ? 0 : 1;
                current[j] = Math.Min(Math.Min(last[j] + 1, current[j - 1] + 1), last[j - 1] + cost);
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    current[j] = Math.Min(current[j], beforeLast[j - 2] + 1);
                }
            }

            (beforeLast, last, current) = (last, current, beforeLast);
        }

        return last[b.Length];
    }
}
