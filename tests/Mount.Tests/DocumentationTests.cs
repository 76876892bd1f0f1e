using System.Text.RegularExpressions;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>The documents say what the program does.</summary>
public sealed partial class DocumentationTests
{
    [SkippableTheory]
    [InlineData("mount")]
    [InlineData("umount")]
    [InlineData("info")]
    [InlineData("map")]
    [InlineData("check")]
    [InlineData("create")]
    [InlineData("convert")]
    [InlineData("amend")]
    [InlineData("commit")]
    [InlineData("list")]
    [InlineData("doctor")]
    public void Every_option_of_a_command_is_in_the_manual(string verb)
    {
        Needs.Mounting();
        string manual = File.ReadAllText(Path.Combine(Tool.Repository, "docs/cli.md"));
        string help = Tool.Run(Tool.Imgmount, verb, "--help");
        string[] options = [.. OptionName().Matches(help).Select(match => match.Value).Distinct()];
        Assert.NotEmpty(options);
        string[] missing = [.. options.Where(option => option != "--help" && !manual.Contains(option, StringComparison.Ordinal))];
        Assert.True(missing.Length == 0, $"docs/cli.md lacks {string.Join(", ", missing)} of '{verb}'");
    }

    [SkippableFact]
    public void Every_command_in_the_read_me_is_one_that_the_program_knows()
    {
        Needs.Mounting();
        string help = Tool.Run(Tool.Imgmount, "--help");
        string text = File.ReadAllText(Path.Combine(Tool.Repository, "README.md"));
        foreach (Match match in Example().Matches(text))
        {
            foreach (string word in match.Value.Split(' ', '`').Where(word => word.StartsWith("--", StringComparison.Ordinal)))
            {
                string verb = match.Groups[1].Value;
                string options = verb is "umount" or "info" or "map" or "check" or "amend" or "commit" or "list"
                    ? Tool.Run(Tool.Imgmount, verb, "--help") : help;
                Assert.Contains(word, options, StringComparison.Ordinal);
            }
        }
    }

    [GeneratedRegex(@"(?<![\w-])--[a-z][a-z-]+")]
    private static partial Regex OptionName();

    [GeneratedRegex(@"`imgmount (\S+)[^`]*`")]
    private static partial Regex Example();
}
