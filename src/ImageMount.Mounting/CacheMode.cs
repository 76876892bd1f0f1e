namespace ImageMount.Mounting;

/// <summary>The cache modes of the design's table: how the image is opened and how the exposed file behaves.</summary>
public enum CacheMode
{
    /// <summary>
    /// Image buffered; exposed file in the kernel's page cache, written back later; fsync reaches the disk.
    /// </summary>
    Writeback,

    /// <summary>Image O_DIRECT; exposed file without page cache, parallel writes; fsync reaches the disk.</summary>
    None,

    /// <summary>Image buffered; exposed file in the page cache; every write is durable when it completes.</summary>
    Writethrough,

    /// <summary>Image O_DIRECT; exposed file without page cache; every write is durable when it completes.</summary>
    Directsync,

    /// <summary>As writeback, but flushes are ignored: for data that may be lost.</summary>
    Unsafe,
}

/// <summary>What a <see cref="CacheMode"/> means, one question each.</summary>
public static class CacheModes
{
    /// <summary>The image file is opened with O_DIRECT.</summary>
    public static bool ImageIsDirect(this CacheMode mode) => mode is CacheMode.None or CacheMode.Directsync;

    /// <summary>Every write is durable when it completes.</summary>
    public static bool EveryWriteIsDurable(this CacheMode mode) =>
        mode is CacheMode.Writethrough or CacheMode.Directsync;

    /// <summary>Flushes are not passed on.</summary>
    public static bool IgnoresFlush(this CacheMode mode) => mode is CacheMode.Unsafe;

    /// <summary>The exposed files use the kernel's page cache.</summary>
    public static bool UsesPageCache(this CacheMode mode) =>
        mode is CacheMode.Writeback or CacheMode.Writethrough or CacheMode.Unsafe;

    /// <summary>The kernel may delay and merge writes (FUSE_WRITEBACK_CACHE).</summary>
    public static bool DelaysWrites(this CacheMode mode) => mode is CacheMode.Writeback or CacheMode.Unsafe;
}
