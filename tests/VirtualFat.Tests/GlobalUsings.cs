global using ImageMount.Core.Block;
global using ImageMount.TestSupport;
global using Xunit;
