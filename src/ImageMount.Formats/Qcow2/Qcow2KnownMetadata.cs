using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Notes, when an image is opened for writing, where its metadata is; refuses an image whose structures overlap.
/// </summary>
internal static class Qcow2KnownMetadata
{
    public static void Note(
        MetadataMap metadata, Qcow2Image image, RootTable l1, Qcow2Refcounts refcounts,
        IReadOnlyList<Qcow2Snapshot> snapshots, long snapshotTableBytes, IReadOnlyList<Qcow2Bitmap> bitmaps)
    {
        Qcow2Header header = image.Header;
        Qcow2Geometry g = image.Geometry;
        var noter = new Noter(metadata, g, image.File.Length);
        noter.Add("the header", 0, g.ClusterSize);
        noter.Add("the refcount table", refcounts.Table.Offset, refcounts.Table.Count * 8L);
        noter.Add("the L1 table", l1.Offset, l1.Count * 8L);
        for (int i = 0; i < refcounts.Table.Count; i++)
        {
            long block = refcounts.BlockOffset(i);
            if (block != 0)
            {
                noter.Add("a refcount block", block, g.ClusterSize);
            }
        }

        for (int i = 0; i < l1.Count; i++)
        {
            ulong entry = l1[i];
            long table = (long)(entry & Qcow2Layout.OffsetMask);
            if ((entry & (Qcow2Layout.L1Reserved | (uint)(g.ClusterSize - 1))) != 0)
            {
                throw BlockException.Invalid(
                    "an L1 entry is invalid", l1.Offset + i * 8L, $"0x{entry:x16}", "a cluster's offset below 2^56");
            }

            if (table != 0)
            {
                noter.Add("an L2 table", table, g.ClusterSize);
            }
        }

        if (snapshots.Count > 0)
        {
            noter.Add("the snapshot table", header.SnapshotsOffset, snapshotTableBytes);
        }

        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            if (snapshot.L1Entries != 0)
            {
                string what = $"the L1 table of snapshot '{snapshot.Info.Name}'";
                Place(what, snapshot.L1Offset, snapshot.L1Entries * 8L, noter);
            }
        }

        if (header.Encryption is { } encryption)
        {
            Place("the encryption header", encryption.Offset, (long)encryption.Length.Value, noter);
        }

        if (header.Bitmaps is { } extension)
        {
            Place("the bitmap directory", extension.DirectoryOffset, (long)extension.DirectorySize.Value, noter);
        }

        foreach (Qcow2Bitmap bitmap in bitmaps)
        {
            if (bitmap.TableEntries != 0)
            {
                Place($"the table of bitmap '{bitmap.Name}'", bitmap.TableOffset, bitmap.TableEntries * 8L, noter);
            }
        }
    }

    private static void Place(string what, ulong offset, long count, Noter noter)
    {
        Qcow2HeaderChecks.CheckPlace(what, offset, count, noter.Geometry, noter.FileLength, null);
        noter.Add(what, (long)offset, count);
    }

    private readonly record struct Noter(MetadataMap Metadata, Qcow2Geometry Geometry, long FileLength)
    {
        public void Add(string what, long offset, long count)
        {
            long clusters = Geometry.ClustersFor(count);
            long first = offset >> Geometry.ClusterBits;
            if (clusters == 0)
            {
                return;
            }

            if (first + clusters > Geometry.ClustersFor(FileLength))
            {
                throw Error(
                    what + " lies outside the file", offset, $"0x{offset:x}+0x{count:x}", $"0…0x{FileLength:x}");
            }

            if (!Metadata.Add(first, clusters, out long overlap))
            {
                throw Error(
                    what + " overlaps other metadata", overlap << Geometry.ClusterBits, $"0x{offset:x}+0x{count:x}",
                    null);
            }
        }

        private static BlockException Error(string what, long offset, string found, string? expected) =>
            new(BlockErrorKind.InvalidData, what)
            {
                Offset = offset,
                Found = found,
                Expected = expected,
                Hint = "Open it read-only, or repair it with 'qemu-img check -r all'.",
            };
    }
}
