global using ImageMount.Interop;
global using Xunit;

// Kernel tests mount, and some look at everything that is mounted: one at a time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
