using System.Text.RegularExpressions;

namespace ImageMount.Tidy.Tests;

/// <summary>Rules on the text of the sources (STYLE: 10, 12, 17).</summary>
public sealed partial class SourceTests
{
    private const int MaxLines = 600;

    /// <summary>Where pointers are allowed: the edges to the kernel and to memory.</summary>
    private static readonly string[] UnsafeFolders =
    [
        "src/ImageMount.Interop/", "src/ImageMount.Fuse/Abi/", "src/ImageMount.Fuse/Transport/",
        "src/ImageMount.Core/Memory/", "src/ImageMount.Core/Bits/",
    ];

    [Fact]
    public void Files_are_short_enough_to_hold_one_subject() => Repository.AssertNone(
        from file in Code()
        let lines = file.Lines.Length
        where lines > MaxLines
        select $"{file.Name}: {lines} lines");

    [Fact]
    public void Nothing_is_left_to_be_done() => Repository.AssertNone(
        from file in Code().Concat(Repository.Files("scripts", "")).Where(file => !file.Name.Contains("Tidy.Tests"))
        from complaint in Matches(file, Unfinished())
        select complaint);

    [Fact]
    public void Namespaces_are_file_scoped() => Repository.AssertNone(
        from file in Code()
        from complaint in Matches(file, BlockNamespace())
        select complaint);

    [Fact]
    public void Unsafe_code_stays_at_the_edges_and_says_why_it_is_sound() => Repository.AssertNone(
        from file in Repository.Files("src", ".cs")
        where UnsafeKeyword().IsMatch(file.Text)
        where !UnsafeFolders.Any(folder => file.Name.StartsWith(folder, StringComparison.Ordinal))
            || !file.Text.Contains("// SAFETY:", StringComparison.Ordinal)
        select $"{file.Name}: unsafe outside its folders, or without a '// SAFETY:' line");

    [Fact]
    public void Errors_are_not_swallowed() => Repository.AssertNone(
        from file in Repository.Files("src", ".cs")
        from complaint in Matches(file, EmptyCatch())
        select complaint);

    [Fact]
    public void Tests_do_not_sleep() => Repository.AssertNone(
        from file in Repository.Files("tests", ".cs").Where(file => !file.Name.Contains("Tidy.Tests"))
        from complaint in Matches(file, Sleeping())
        select complaint);

    [Fact]
    public void No_test_is_skipped_without_asking_the_machine() => Repository.AssertNone(
        from file in Repository.Files("tests", ".cs").Where(file => !file.Name.Contains("Tidy.Tests"))
        from complaint in Matches(file, UnconditionalSkip())
        select complaint);

    [Fact]
    public void Every_test_project_is_in_the_solution()
    {
        string solution = Repository.TextOf("ImageMount.sln");
        Repository.AssertNone(
            from project in Repository.Files("tests", ".csproj").Concat(Repository.Files("src", ".csproj"))
            where !solution.Contains(Path.GetFileName(project.Name), StringComparison.Ordinal)
            select $"{project.Name} is not in ImageMount.sln");
    }

    private static IEnumerable<SourceFile> Code() =>
        Repository.Files("src", ".cs").Concat(Repository.Files("tests", ".cs"));

    private static IEnumerable<string> Matches(SourceFile file, Regex pattern) =>
        from match in pattern.Matches(file.Text)
        select $"{file.Name}:{file.Text.AsSpan(0, match.Index).Count('\n') + 1}: {match.Value.Trim()}";

    [GeneratedRegex(@"NotImplementedException|\bTODO\b|\bFIXME\b|\bHACK\b|\bXXX\b(?!Driver|Layout)")]
    private static partial Regex Unfinished();

    [GeneratedRegex(@"^namespace [\w.]+\s*(\{|$)", RegexOptions.Multiline)]
    private static partial Regex BlockNamespace();

    [GeneratedRegex(@"^[^""/\n]*\bunsafe\b", RegexOptions.Multiline)]
    private static partial Regex UnsafeKeyword();

    [GeneratedRegex(@"catch\s*(\((System\.)?Exception[^)]*\))?\s*\{\s*\}")]
    private static partial Regex EmptyCatch();

    [GeneratedRegex(@"Thread\.Sleep|await Task\.Delay")]
    private static partial Regex Sleeping();

    [GeneratedRegex(@"Skip\s*=\s*""")]
    private static partial Regex UnconditionalSkip();
}
