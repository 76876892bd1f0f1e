global using ImageMount.Core.Block;
global using ImageMount.TestSupport;
global using ImageMount.VirtualFat.Layout;
global using ImageMount.VirtualFat.Names;
global using ImageMount.VirtualFat.Plan;
global using ImageMount.VirtualFat.Tests.Support;
global using Xunit;
