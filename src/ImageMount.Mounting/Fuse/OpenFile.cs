using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>What a FUSE handle stands for: an open disk file, or a report being read.</summary>
internal sealed record OpenFile
{
    public DiskFile? Disk { get; init; }

    public ReportReader? Report { get; init; }

    public OpenCaching Caching { get; init; }

    public bool Writes { get; init; }
}
