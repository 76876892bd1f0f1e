global using ImageMount.Core.Block;
global using ImageMount.Core.Graph;
global using ImageMount.Core.Info;
global using ImageMount.Interop;
global using ImageMount.TestSupport;
global using Xunit;
