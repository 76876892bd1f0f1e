namespace ImageMount.VirtualFat.Applying;

/// <summary>What the host's file system cannot do; given by tests, which have only one that can do everything.</summary>
[Flags]
internal enum HostLack
{
    /// <summary>Nothing is missing.</summary>
    None = 0,

    /// <summary>Two names do not change places (RENAME_EXCHANGE).</summary>
    Exchange = 1,

    /// <summary>Renaming does not care for what has the new name (no RENAME_NOREPLACE).</summary>
    NoReplace = 2,

    /// <summary>Files have one name only (no link(2)).</summary>
    Links = 4,
}
