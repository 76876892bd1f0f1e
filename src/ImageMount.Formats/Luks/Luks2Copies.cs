namespace ImageMount.Formats.Luks;

/// <summary>The two copies of a LUKS2 header, as they were found.</summary>
/// <param name="HeaderSize">Bytes of each.</param>
/// <param name="SequenceId">Sequence id of the one that counts.</param>
/// <param name="UsedSecond">True when the first is damaged or older.</param>
/// <param name="Damage">What is wrong with the other one, or null.</param>
/// <param name="Used">The bytes of the one that counts.</param>
public sealed record Luks2Copies(int HeaderSize, ulong SequenceId, bool UsedSecond, string? Damage, byte[] Used);
