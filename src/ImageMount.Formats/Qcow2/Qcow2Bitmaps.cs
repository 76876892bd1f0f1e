using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>A persistent bitmap, as its directory entry describes it ("Bitmap directory").</summary>
/// <param name="Name">Name.</param>
/// <param name="Flags">in_use 1, auto 2, extra_data_compatible 4.</param>
/// <param name="GranularityBits">log2 of the bytes a bit stands for.</param>
/// <param name="TableOffset">Host offset of the bitmap table; not checked.</param>
/// <param name="TableEntries">Entries of it; not checked.</param>
/// <param name="EntryOffset">Host offset of the directory entry.</param>
public sealed record Qcow2Bitmap(
    string Name, uint Flags, byte GranularityBits, ulong TableOffset, uint TableEntries, long EntryOffset)
{
    /// <summary>True when the bitmap was not saved properly.</summary>
    public bool IsInUse => (Flags & Qcow2Layout.BitmapInUse) != 0;

    /// <summary>True when the bitmap has to follow every write.</summary>
    public bool IsEnabled => (Flags & Qcow2Layout.BitmapAuto) != 0;
}

/// <summary>
/// Persistent bitmaps ("Bitmaps extension", "Bitmaps"). This program does not keep them up to date while it writes, so
/// it says so in the image: before the first write every enabled bitmap is marked in use, which is what the
/// specification asks of a bitmap that is not in step with the disk. QEMU then shows it as inconsistent and lets the
/// user remove it; bitmaps that are not enabled stay as they are, and stay valid.
/// </summary>
public static class Qcow2Bitmaps
{
    /// <summary>Reads the directory.</summary>
    public static async ValueTask<List<Qcow2Bitmap>> ReadAsync(
        BlockNode file, Qcow2Header header, CancellationToken cancellationToken)
    {
        var bitmaps = new List<Qcow2Bitmap>();
        if (header.Bitmaps is not { } extension)
        {
            return bitmaps;
        }

        Qcow2HeaderChecks.CheckPlace(
            "the bitmap directory", extension.DirectoryOffset, (long)extension.DirectorySize.Value, header.Geometry,
            file.Length, null);
        long at = (long)extension.DirectoryOffset.Value;
        long end = at + (long)extension.DirectorySize.Value;
        using BufferLease buffer = BufferPool.Shared.Rent(Qcow2Layout.BitmapEntry + Qcow2Layout.MaxBitmapNameLength);
        for (uint i = 0; i < extension.Count; i++)
        {
            CheckInside(at, Qcow2Layout.BitmapEntry, end);
            Memory<byte> head = buffer.Memory[..Qcow2Layout.BitmapEntry];
            await file.ReadAsync(at, head, cancellationToken).ConfigureAwait(false);
            Qcow2BitmapEntry entry = MemoryMarshal.Read<Qcow2BitmapEntry>(head.Span);
            if (entry.NameSize.Value is 0 or > Qcow2Layout.MaxBitmapNameLength)
            {
                throw BlockException.Invalid(
                    "the length of a bitmap's name is out of range", at + 18, $"{entry.NameSize.Value}",
                    $"1…{Qcow2Layout.MaxBitmapNameLength}");
            }

            long variable = (long)entry.ExtraDataSize.Value + entry.NameSize.Value;
            CheckInside(at + Qcow2Layout.BitmapEntry, variable, end);
            Memory<byte> name = buffer.Memory.Slice(Qcow2Layout.BitmapEntry, entry.NameSize.Value);
            await file.ReadAsync(at + Qcow2Layout.BitmapEntry + entry.ExtraDataSize.Value, name, cancellationToken)
                .ConfigureAwait(false);
            bitmaps.Add(new Qcow2Bitmap(
                Encoding.UTF8.GetString(name.Span), entry.Flags, entry.GranularityBits, entry.TableOffset,
                entry.TableSize, at));
            at += Qcow2Layout.BitmapEntry + variable + 7 & -8;
        }

        return bitmaps;
    }

    /// <summary>
    /// Marks bitmaps as not in step with the disk, durably; the ones that are marked already are left alone.
    /// </summary>
    /// <param name="file">The image.</param>
    /// <param name="bitmaps">Its bitmaps.</param>
    /// <param name="all">True for the disabled ones too, as when the size of the disk changes.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async ValueTask MarkInUseAsync(
        BlockNode file, IReadOnlyList<Qcow2Bitmap> bitmaps, bool all, CancellationToken cancellationToken)
    {
        bool any = false;
        foreach (Qcow2Bitmap bitmap in bitmaps)
        {
            if (bitmap.IsInUse || !all && !bitmap.IsEnabled)
            {
                continue;
            }

            var flags = new byte[4];
            BinaryPrimitives.WriteUInt32BigEndian(flags, bitmap.Flags | Qcow2Layout.BitmapInUse);
            await file.WriteAsync(
                bitmap.EntryOffset + Qcow2Layout.BitmapFlagsField, flags, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
            any = true;
        }

        if (any)
        {
            await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private static void CheckInside(long at, long count, long end)
    {
        if (count > end - at)
        {
            throw BlockException.Invalid(
                "a bitmap leaves the bitmap directory", at, $"{count} bytes", $"{end - at} bytes");
        }
    }
}
