using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>A disk in memory.</summary>
internal sealed class MemoryDisk(byte[] bytes) : IDiskReader
{
    public byte[] Bytes { get; } = bytes;

    public long Length => Bytes.Length;

    public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Bytes.AsMemory((int)offset, buffer.Length).CopyTo(buffer);
        return default;
    }

    /// <summary>Reads the volume that the whole disk is.</summary>
    public VolumeReading ReadVolume() =>
        VolumeReader.ReadAsync(this, 0, Length, null, CancellationToken.None).AsTask().GetAwaiter().GetResult();
}
