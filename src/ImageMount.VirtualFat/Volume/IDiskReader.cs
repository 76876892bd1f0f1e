namespace ImageMount.VirtualFat.Volume;

/// <summary>The bytes of a disk, at any place, from any number of threads.</summary>
internal interface IDiskReader
{
    /// <summary>Bytes of the disk.</summary>
    long Length { get; }

    /// <summary>Fills the buffer from a place inside the disk. Failures are BlockException.</summary>
    ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken);

    /// <summary>Bytes from a place on, at most <paramref name="count"/>, that are known to be zero; 0: nothing is
    /// known.
    /// </summary>
    ValueTask<long> ZeroLengthAsync(long offset, long count, CancellationToken cancellationToken) => new(0);
}
