using System.Buffers.Binary;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// The grain directory of an extent, and the redundant one ("Hosted Sparse Extents"): sector of each grain table, 0
/// where there is none. The primary counts; an entry of it that leads out of the file, or is missing in an extent that was
/// closed properly, is replaced by its redundant twin, and then the extent is not written any more.
/// </summary>
internal sealed class VmdkGrainDirectory
{
    private VmdkGrainDirectory(uint[] primary, uint[]? redundant)
    {
        Primary = primary;
        Redundant = redundant;
    }

    /// <summary>Sectors of the grain tables.</summary>
    public uint[] Primary { get; }

    /// <summary>Sectors of their copies, or null when there are none.</summary>
    public uint[]? Redundant { get; }

    /// <summary>What is wrong with the primary directory, or null.</summary>
    public string? Damage { get; private set; }

    /// <summary>Reads the directories of an extent.</summary>
    /// <exception cref="BlockException">InvalidData when no usable directory lies inside the file.</exception>
    public static async ValueTask<VmdkGrainDirectory> ReadAsync(
        BlockNode file, VmdkHeader header, CancellationToken cancellationToken)
    {
        uint[]? primary = await TryReadAsync(file, header, header.DirectoryOffset, cancellationToken)
            .ConfigureAwait(false);
        uint[]? redundant = header.RedundantDirectoryOffset == 0 ? null
            : await TryReadAsync(file, header, header.RedundantDirectoryOffset, cancellationToken)
                .ConfigureAwait(false);
        if (primary is null && redundant is null)
        {
            throw BlockException.Invalid(
                "the grain directory lies outside the file", header.DirectoryOffset,
                $"{header.DirectoryEntries} entries", $"inside {file.Length} bytes");
        }

        if (primary is null)
        {
            return new VmdkGrainDirectory(redundant!, null)
            {
                Damage = "the grain directory lies outside the file; the redundant one is used",
            };
        }

        var directory = new VmdkGrainDirectory(primary, redundant);
        directory.Repair(header, file.Length);
        return directory;
    }

    /// <summary>True when a whole table can be at a sector of a file.</summary>
    public static bool IsInside(uint sector, int tableSize, long fileLength) =>
        ((long)sector * VmdkLayout.SectorSize) + tableSize <= fileLength;

    private static async ValueTask<uint[]?> TryReadAsync(
        BlockNode file, VmdkHeader header, long offset, CancellationToken cancellationToken)
    {
        int size = header.DirectoryEntries * sizeof(uint);
        if (offset < header.HeaderSize || offset > file.Length - size)
        {
            return null;
        }

        using BufferLease bytes = BufferPool.Shared.Rent(size);
        await file.ReadAsync(offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        return ToEntries(bytes.Span);
    }

    /// <summary>Entries of a table as it is stored.</summary>
    public static uint[] ToEntries(ReadOnlySpan<byte> stored)
    {
        uint[] entries = MemoryMarshal.Cast<byte, uint>(stored).ToArray();
        if (!BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(entries, entries);
        }

        return entries;
    }

    /// <summary>Stores entries as they are on disk.</summary>
    public static void Store(ReadOnlySpan<uint> entries, Span<byte> stored)
    {
        Span<Le32> to = MemoryMarshal.Cast<byte, Le32>(stored);
        for (int i = 0; i < entries.Length; i++)
        {
            to[i] = entries[i];
        }
    }

    private void Repair(VmdkHeader header, long fileLength)
    {
        for (int i = 0; i < Primary.Length; i++)
        {
            // Twins are written first: until the extent is closed they may name what never became valid.
            uint twin = Redundant?[i] ?? 0;
            bool usable = twin != 0 && IsInside(twin, header.TableSize, fileLength);
            bool missing = Primary[i] == 0 && usable && !header.IsUnclean;
            if (IsInside(Primary[i], header.TableSize, fileLength) && !missing)
            {
                continue;
            }

            Damage ??= $"entry {i} of the grain directory "
                + (missing ? "is missing" : $"(sector {Primary[i]}) leads out of the file")
                + (usable ? "; the redundant directory is used" : "");
            if (usable)
            {
                Primary[i] = twin;
            }
        }
    }
}
