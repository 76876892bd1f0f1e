using System.Reflection;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Formats.Raw;
using ImageMount.Protocols.Files;

namespace ImageMount.Tidy.Tests;

/// <summary>
/// A driver is finished when it has a page, a changelog line, a place in the program, and tests of every kind (STYLE 15).
/// The drivers are found in the assemblies, so that one that is forgotten everywhere is found too.
/// </summary>
public sealed class DriverTests
{
    public static TheoryData<string> Names()
    {
        var names = new TheoryData<string>();
        foreach (BlockDriver driver in Drivers())
        {
            names.Add(driver.Name);
        }

        return names;
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_driver_has_a_page_with_all_its_options(string name)
    {
        BlockDriver driver = Drivers().Single(candidate => candidate.Name == name);
        string page = Repository.TextOf($"docs/drivers/{name}.md");
        Assert.False(page.Length == 0, $"docs/drivers/{name}.md is missing");
        Repository.AssertNone(
            from property in driver.OptionsType.GetProperties()
            let option = property.GetCustomAttribute<OptionAttribute>()
            where option is not null && !page.Contains($"`{option.Name}`", StringComparison.Ordinal)
            select $"docs/drivers/{name}.md does not describe the option `{option.Name}`");
        Assert.Contains($"({name}.md)", Repository.TextOf("docs/drivers/README.md"), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_driver_is_in_the_program_and_in_the_changelog(string name)
    {
        string type = Drivers().Single(candidate => candidate.Name == name).GetType().Name;
        Assert.Contains(type, Repository.TextOf("src/ImageMount.Cli/Drivers.cs"), StringComparison.Ordinal);
        Assert.Contains($"`{name}`", Repository.TextOf("CHANGELOG.md"), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_driver_runs_the_conformance_suite(string name) =>
        AssertTested("tests/Conformance.Tests", name, "a line in the conformance suite");

    public static TheoryData<string> FormatNames()
    {
        var names = new TheoryData<string>();
        foreach (BlockDriver driver in Drivers().Where(driver => driver.Kind == DriverKind.Format && driver.Name != "raw"))
        {
            names.Add(driver.Name);
        }

        return names;
    }

    [Theory]
    [MemberData(nameof(FormatNames))]
    public void A_format_is_fuzzed_and_compared_with_a_peer(string name)
    {
        AssertTested("tests/Fuzz.Tests", name, "a fuzz target");
        AssertTested("tests/Interop.Tests", name, "a test against a peer");
    }

    private static void AssertTested(string folder, string name, string what) => Assert.True(
        Repository.Files(folder, ".cs").Any(file =>
            file.Text.Contains($"\"{name}", StringComparison.Ordinal) ||
            file.Name.Contains(name, StringComparison.OrdinalIgnoreCase)),
        $"'{name}' lacks {what} ({folder})");

    private static List<BlockDriver> Drivers()
    {
        Assembly[] assemblies =
        [
            typeof(RawDriver).Assembly, typeof(FileDriver).Assembly, Assembly.Load("ImageMount.Filters"),
            Assembly.Load("ImageMount.VirtualFat"),
        ];
        List<BlockDriver> drivers =
        [
            .. from assembly in assemblies
               from type in assembly.GetTypes()
               where typeof(BlockDriver).IsAssignableFrom(type) && !type.IsAbstract
               where type.GetConstructor(Type.EmptyTypes) is not null
               select (BlockDriver)Activator.CreateInstance(type)!,
        ];
        Assert.Contains(drivers, driver => driver.Name == "file");
        return [.. drivers.OrderBy(driver => driver.Name, StringComparer.Ordinal)];
    }
}
