using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Writes the few header fields that change while an image is open. Each group of fields lies in the first sector and
/// goes in one write, so a crash leaves it old or new.
/// </summary>
internal sealed class Qcow2HeaderWriter(BlockNode file)
{
    /// <summary>size, crypt_method, l1_size and l1_table_offset.</summary>
    public ValueTask WriteDiskAsync(
        long size, uint cryptMethod, int l1Entries, long l1Offset, CancellationToken cancellationToken)
    {
        var bytes = new byte[24];
        BinaryPrimitives.WriteInt64BigEndian(bytes, size);
        BinaryPrimitives.WriteUInt32BigEndian(
            bytes.AsSpan(Qcow2Layout.CryptMethodField - Qcow2Layout.SizeField), cryptMethod);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(Qcow2Layout.L1SizeField - Qcow2Layout.SizeField), l1Entries);
        BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(16), l1Offset);
        return file.WriteAsync(Qcow2Layout.SizeField, bytes, WriteFlags.None, cancellationToken);
    }

    /// <summary>refcount_table_offset and refcount_table_clusters.</summary>
    public ValueTask WriteRefcountTableAsync(long offset, int clusters, CancellationToken cancellationToken)
    {
        var bytes = new byte[12];
        BinaryPrimitives.WriteInt64BigEndian(bytes, offset);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(8), clusters);
        return file.WriteAsync(Qcow2Layout.RefcountTableField, bytes, WriteFlags.None, cancellationToken);
    }

    /// <summary>incompatible_features; version 3 only.</summary>
    public ValueTask WriteIncompatibleAsync(Qcow2Incompatible features, CancellationToken cancellationToken) =>
        WriteWordAsync(Qcow2Layout.IncompatibleField, (ulong)features, cancellationToken);

    /// <summary>autoclear_features; version 3 only.</summary>
    public ValueTask WriteAutoclearAsync(Qcow2Autoclear features, CancellationToken cancellationToken) =>
        WriteWordAsync(Qcow2Layout.AutoclearField, (ulong)features, cancellationToken);

    private ValueTask WriteWordAsync(long offset, ulong value, CancellationToken cancellationToken)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return file.WriteAsync(offset, bytes, WriteFlags.None, cancellationToken);
    }
}
