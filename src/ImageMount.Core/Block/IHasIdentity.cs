namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices that reach something with a name of its own outside the program, so that the graph can tell
/// when two nodes are the same thing under two paths (a link, a bind mount) and refuse loops.
/// </summary>
public interface IHasIdentity
{
    /// <summary>Equal exactly when the thing is the same: "file:8:1:12345" (device and inode), "device:7:0".</summary>
    string Identity { get; }
}
