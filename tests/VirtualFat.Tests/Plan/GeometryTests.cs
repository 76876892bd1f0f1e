namespace ImageMount.VirtualFat.Tests.Plan;

/// <summary>The choice of type, cluster and size.</summary>
public sealed class GeometryTests
{
    private const long Mebibyte = 1 << 20;

    [Fact]
    public void Every_geometry_is_consistent_and_away_from_the_borders()
    {
        const int Seed = 99;
        var random = new Random(Seed);
        int made = 0;
        for (int i = 0; i < 4000; i++)
        {
            // Sizes on a logarithmic scale: all types and sizes of cluster come up.
            long bytes = (long)Math.Pow(2, random.NextDouble() * 40);
            var options = new VirtualFatOptions
            {
                FatType = random.Next(2) == 0 ? null : (FatTypeOption)(4 << random.Next(1, 4) is 8 ? 12 : random.Next(2) == 0 ? 16 : 32),
                Size = random.Next(2) == 0 ? null : (long)Math.Pow(2, 17 + random.NextDouble() * 24),
                Partitioned = random.Next(2) == 0,
            };
            var needed = new SpaceNeeded(size => (bytes + size - 1) / size, random.Next(3) == 0 ? random.Next(20_000) : 10);
            FatGeometry geometry;
            try
            {
                geometry = GeometryChooser.Choose(options, needed);
            }
            catch (BlockException)
            {
                continue;
            }

            made++;
            string what = $"seed {Seed}, {i}: {options}, {bytes} bytes: {geometry}";
            Check(geometry, options, needed, what);
        }

        Assert.InRange(made, 1000, 4000);
    }

    private static void Check(FatGeometry geometry, VirtualFatOptions options, SpaceNeeded needed, string what)
    {
        Assert.True(FatLayout.TypeOf(geometry.ClusterCount) == geometry.Type, what);
        Assert.True(FatLayout.TypeOf(geometry.ClusterCount + 16) == geometry.Type, what);
        Assert.True(FatLayout.TypeOf(Math.Max(geometry.ClusterCount, 17) - 16) == geometry.Type, what);
        Assert.True(options.FatType is null || (int)options.FatType == (int)geometry.Type, what);
        Assert.True(geometry.ClusterCount >= needed.Clusters(geometry.Type, geometry.ClusterSize), what);
        Assert.True(FatLayout.FatBytes(geometry.Type, geometry.ClusterCount) <= geometry.FatSize, what);
        Assert.True(geometry.DataOffset % 4096 == 0, what);
        Assert.True(geometry.DataEnd <= geometry.PartitionOffset + geometry.VolumeSectors * 512, what);
        Assert.True(geometry.PartitionOffset + geometry.VolumeSectors * 512 <= geometry.TotalBytes, what);
        Assert.True(geometry.TotalBytes <= VirtualFatOptions.MaxSize, what);
        Assert.True(options.Size is null || options.Size / 512 == geometry.TotalBytes / 512, what);
        Assert.True(geometry.VolumeSectors % geometry.SectorsPerTrack == 0, what);
        Assert.True(geometry.VolumeSectors <= uint.MaxValue && geometry.ReservedSectors <= ushort.MaxValue, what);
        Assert.True(geometry.ClusterSize <= FatLayout.MaxClusterSize, what);
        Assert.Equal(options.Partitioned, geometry.IsPartitioned);
        Assert.True(geometry.Type == FatType.Fat32 ? geometry.RootEntries == 0 : geometry.RootEntries % 16 == 0, what);
    }

    [Theory]
    [InlineData(0, FatType.Fat16)]
    [InlineData(100, FatType.Fat16)]
    [InlineData(600, FatType.Fat32)]
    [InlineData(1_900_000, FatType.Fat32)]
    internal void Without_options_the_size_decides(long mebibytes, FatType type)
    {
        FatGeometry geometry = GeometryChooser.Choose(
            new VirtualFatOptions(), new SpaceNeeded(size => mebibytes * Mebibyte / size, 10));
        Assert.Equal(type, geometry.Type);
        Assert.True((geometry.ClusterCount * (long)geometry.ClusterSize) - mebibytes * Mebibyte > 60 * Mebibyte);
    }

    [Fact]
    public void Two_tebibytes_are_the_end()
    {
        FatGeometry geometry = GeometryChooser.Choose(
            new VirtualFatOptions { Size = 2L << 40 }, new SpaceNeeded(_ => 1, 10));
        Assert.Equal(2L << 40, geometry.TotalBytes);
        Assert.Equal(32 << 10, geometry.ClusterSize);
        BlockException e = Assert.Throws<BlockException>(() => GeometryChooser.Choose(
            new VirtualFatOptions(), new SpaceNeeded(size => (2L << 40) / size, 10)));
        Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
    }

    [Fact]
    public void A_floppy_is_the_smallest_that_fits_or_an_error()
    {
        static FatGeometry Floppy(long kibibytes, FloppySize? size = null) => GeometryChooser.Choose(
            new VirtualFatOptions { Floppy = true, FloppySize = size },
            new SpaceNeeded(cluster => kibibytes * 1024 / cluster, 10));
        Assert.Equal(1440 << 10, Floppy(1000).TotalBytes);
        Assert.Equal(2880 << 10, Floppy(2000).TotalBytes);
        Assert.Equal(1200 << 10, Floppy(10, FloppySize.Size1200).TotalBytes);
        Assert.Equal(BlockErrorKind.NoSpace, Assert.Throws<BlockException>(() => Floppy(3000)).Kind);
        Assert.Equal(
            BlockErrorKind.NoSpace, Assert.Throws<BlockException>(() => Floppy(1300, FloppySize.Size1200)).Kind);
    }
}
