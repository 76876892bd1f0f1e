using System.Text.RegularExpressions;

namespace ImageMount.Tidy.Tests;

/// <summary>What documents point at is there.</summary>
public sealed partial class DocumentTests
{
    [Fact]
    public void Links_between_documents_lead_somewhere() => Repository.AssertNone(
        from file in Documents()
        from Match match in Link().Matches(file.Text)
        let target = match.Groups[1].Value.Split('#')[0]
        where target.Length > 0 && !target.Contains("://", StringComparison.Ordinal)
        let path = Path.Combine(Repository.Top, Path.GetDirectoryName(file.Name)!, target)
        where !File.Exists(path) && !Directory.Exists(path)
        select $"{file.Name}: {match.Groups[1].Value}");

    [Fact]
    public void Scripts_that_documents_name_exist() => Repository.AssertNone(
        from file in Documents()
        from Match match in Script().Matches(file.Text)
        where !File.Exists(Path.Combine(Repository.Top, match.Value))
        select $"{file.Name}: {match.Value}");

    private static IEnumerable<SourceFile> Documents() =>
        Repository.Files("docs", ".md").Concat(Repository.Files("samples", ".md"))
            .Append(new SourceFile("README.md", Repository.TextOf("README.md")))
            .Append(new SourceFile("CHANGELOG.md", Repository.TextOf("CHANGELOG.md")));

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"(?<![\w/.])(scripts|samples)/[a-z][\w.-]*[\w]")]
    private static partial Regex Script();
}
