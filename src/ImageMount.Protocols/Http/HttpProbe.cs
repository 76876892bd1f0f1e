namespace ImageMount.Protocols.Http;

/// <summary>What the first answer of a server tells.</summary>
/// <param name="Place">Where the file is, after redirections.</param>
/// <param name="Version">State of the file; its length is -1 where the server does not tell.</param>
/// <param name="HasRanges">True when parts of it can be asked for.</param>
internal sealed record HttpProbe(HttpPlace Place, HttpFileVersion Version, bool HasRanges);
