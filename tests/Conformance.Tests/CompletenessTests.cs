using System.Reflection;

namespace ImageMount.Conformance.Tests;

/// <summary>No driver without its line here.</summary>
public sealed class CompletenessTests
{
    [Fact]
    public void Every_driver_of_the_assemblies_runs_the_suite()
    {
        string[] tested =
        [
            .. Assembly.GetExecutingAssembly().GetTypes()
                .Where(type => type.IsSubclassOf(typeof(ConformanceReading)) && !type.IsAbstract)
                .Select(type => ((ConformanceReading)Activator.CreateInstance(type)!).Driver)
                .Distinct()
                .Order(),
        ];
        Assert.Equal(TestGraph.Registry.Drivers.Select(driver => driver.Name).Order(), tested);
    }
}
