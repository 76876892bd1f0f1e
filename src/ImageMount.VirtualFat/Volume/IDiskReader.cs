namespace ImageMount.VirtualFat.Volume;

/// <summary>The bytes of a disk, at any place, from any number of threads.</summary>
internal interface IDiskReader
{
    /// <summary>Bytes of the disk.</summary>
    long Length { get; }

    /// <summary>Fills the buffer from a place inside the disk. Failures are BlockException.</summary>
    ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken);
}
