namespace ImageMount.Conformance.Tests;

/// <summary>The content of a compressed file; reading only.</summary>
public abstract class CompressedConformance(string driver, params (string Key, string Value)[] options)
    : ConformanceSuite
{
    public override string Driver => driver;

    protected override bool IsWritable => false;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        OptionMap map = TestGraph.ForFile(PackFile(rawFile), driver);
        foreach ((string key, string value) in options)
        {
            map.Set(key, value);
        }

        return map;
    }

    protected abstract string PackFile(string rawFile);
}

public class GzipConformance() : CompressedConformance("gzip", ("checkpoint-distance", "32k"))
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "gzip", ".gz");
}

/// <summary>One unit that does not fit the cache: all of it goes through the temporary file.</summary>
public class GzipSpooledConformance()
    : CompressedConformance("gzip", ("checkpoint-distance", "1M"), ("spool-above", "4k"))
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "gzip", ".gz");
}

public class GzipBgzfConformance() : CompressedConformance("gzip")
{
    protected override string PackFile(string rawFile)
    {
        File.WriteAllBytes(rawFile + ".bgzf.gz", Pack.Bgzf(File.ReadAllBytes(rawFile), 5000));
        return rawFile + ".bgzf.gz";
    }
}

public class XzConformance() : CompressedConformance("xz")
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "xz", ".xz", "-0", "--block-size=20001");
}

/// <summary>Blocks that do not fit the cache, in several streams.</summary>
public class XzSpooledConformance() : CompressedConformance("xz", ("spool-above", "4k"))
{
    protected override string PackFile(string rawFile) => Pack.Pieces(rawFile, 70_001, "xz", ".xz", "-0");
}

/// <summary>Shown as it is decoded, not before its check was seen.</summary>
public class XzUnverifiedConformance() : CompressedConformance("xz", ("spool-above", "4k"), ("verify", "off"))
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "xz", ".xz", "-0");
}

public class Bzip2Conformance() : CompressedConformance("bzip2")
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "bzip2", ".bz2", "-1");
}

public class Bzip2SpooledConformance() : CompressedConformance("bzip2", ("spool-above", "4k"))
{
    protected override string PackFile(string rawFile) => Pack.Pieces(rawFile, 50_001, "bzip2", ".bz2");
}

public class ZstdConformance() : CompressedConformance("zstd")
{
    protected override string PackFile(string rawFile) => Pack.Pieces(rawFile, 30_001, "zstd", ".zst");
}

public class ZstdSpooledConformance() : CompressedConformance("zstd", ("spool-above", "4k"))
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "zstd", ".zst");
}

/// <summary>Without checksums nothing is gained by waiting for the end.</summary>
public class ZstdUncheckedConformance() : CompressedConformance("zstd", ("spool-above", "4k"))
{
    protected override string PackFile(string rawFile) => Pack.With(rawFile, "zstd", ".zst", "--no-check");
}

public class TarConformance : ConformanceSuite
{
    public override string Driver => "tar";

    protected override bool IsWritable => false;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string folder = Path.GetDirectoryName(rawFile)!;
        File.WriteAllText(Path.Combine(folder, "a.txt"), "not a disk");
        string archive = Pack.Tar(dir.File("disk.tar"), folder, ["a.txt", Path.GetFileName(rawFile)]);
        return TestGraph.ForFile(archive, "tar");
    }
}
