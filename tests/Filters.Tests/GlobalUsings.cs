global using ImageMount.Core.Block;
global using ImageMount.Core.Graph;
global using ImageMount.Core.Info;
global using ImageMount.Core.Options;
global using ImageMount.TestSupport;
global using Xunit;
