using System.Reflection;

namespace ImageMount.Conformance.Tests;

/// <summary>No driver without its line here.</summary>
public sealed class CompletenessTests
{
    [Fact]
    public void Every_driver_of_the_assemblies_runs_the_suite()
    {
        // A driver that shares all but its connection with another may run a part of the suite (ftps: the class says why).
        string[] tested =
        [
            .. Assembly.GetExecutingAssembly().GetTypes()
                .Where(type => type.IsSubclassOf(typeof(ConformanceBase)) && !type.IsAbstract)
                .Select(type => Make(type).Driver)
                .Distinct()
                .Order(),
        ];
        Assert.Equal(TestGraph.Registry.Drivers.Select(driver => driver.Name).Order(), tested);
    }

    /// <summary>A class that shares a server among its tests takes that as an argument; its name is there without.</summary>
    private static ConformanceBase Make(Type type) => (ConformanceBase)(type.GetConstructor(Type.EmptyTypes) is null
        ? System.Runtime.CompilerServices.RuntimeHelpers.GetUninitializedObject(type)
        : Activator.CreateInstance(type)!);
}
