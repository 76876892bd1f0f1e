using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// User names and passwords by host, in the format of ftp(1)'s ~/.netrc: words "machine NAME", "default", "login NAME",
/// "password WORD", "account WORD", "macdef NAME" (up to an empty line). Words may stand in double quotes, with
/// backslashes; a line that begins with '#' is a comment.
/// </summary>
internal static class Netrc
{
    private const int MaxBytes = 1 << 20;

    /// <summary>The login of a host: the first entry of its name, or the "default", that fits the user.</summary>
    /// <param name="path">The file; null for $NETRC, or ~/.netrc where there is one.</param>
    /// <param name="host">Name or address, without port.</param>
    /// <param name="user">Only this user's password; null for any.</param>
    public static (string User, string Password)? Find(string? path, string host, string? user)
    {
        string text;
        string? named = path ?? Environment.GetEnvironmentVariable("NETRC");
        string file = string.IsNullOrEmpty(named)
            ? Path.Join(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".netrc") : named;
        if (path?.Length == 0 || (string.IsNullOrEmpty(named) && !System.IO.File.Exists(file)))
        {
            return null;
        }

        try
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var bytes = new byte[MaxBytes + 1];
            int count = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            text = count > MaxBytes
                ? throw BlockException.Limit($"{file} is too long", count, MaxBytes)
                : Encoding.UTF8.GetString(bytes, 0, count);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(BlockErrorKind.NotFound, $"the passwords in {file} cannot be read: {e.Message}", e);
        }

        return FindIn(text, host, user);
    }

    /// <summary>The login of a host in the text of such a file.</summary>
    internal static (string User, string Password)? FindIn(string text, string host, string? user)
    {
        string? machine = null;
        string? login = null;
        string? password = null;
        bool Fits() => machine is not null && login is not null && password is not null
            && (machine.Length == 0 || machine.Equals(host, StringComparison.OrdinalIgnoreCase))
            && (user is null || login == user);
        using IEnumerator<string> words = Words(text).GetEnumerator();
        while (words.MoveNext())
        {
            if (words.Current is "machine" or "default")
            {
                if (Fits())
                {
                    break;
                }

                bool isNamed = words.Current == "machine";
                login = password = null;
                machine = !isNamed ? "" : words.MoveNext() ? words.Current : null;
            }
            else if (words.Current is "login" or "password" or "account")
            {
                string what = words.Current;
                string? value = words.MoveNext() ? words.Current : null;
                login = what == "login" ? value : login;
                password = what == "password" ? value : password;
            }
        }

        return Fits() ? (login!, password!) : null;
    }

    /// <summary>Words; macros are left out.</summary>
    private static IEnumerable<string> Words(string text)
    {
        bool inMacro = false;
        foreach (string line in text.Split('\n'))
        {
            string trimmed = line.Trim();
            if (inMacro || trimmed.StartsWith('#'))
            {
                inMacro = inMacro && trimmed.Length > 0;
                continue;
            }

            for (int at = 0; at < trimmed.Length && !inMacro;)
            {
                if (char.IsWhiteSpace(trimmed[at]))
                {
                    at++;
                    continue;
                }

                string word = Word(trimmed, ref at);
                inMacro = word == "macdef";
                if (!inMacro)
                {
                    yield return word;
                }
            }
        }
    }

    private static string Word(string line, ref int at)
    {
        bool isQuoted = line[at] == '"';
        at += isQuoted ? 1 : 0;
        var word = new StringBuilder();
        for (; at < line.Length && (isQuoted ? line[at] != '"' : !char.IsWhiteSpace(line[at])); at++)
        {
            if (line[at] == '\\' && isQuoted && at + 1 < line.Length)
            {
                at++;
            }

            word.Append(line[at]);
        }

        at += isQuoted ? 1 : 0;
        return word.ToString();
    }
}
