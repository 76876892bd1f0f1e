using System.Globalization;
using ImageMount.Core.Info;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;

namespace ImageMount.VirtualFat;

/// <summary>What `info` says of a disk that stands for a folder.</summary>
internal static class FolderFacts
{
    /// <summary>Adds the facts of a plan.</summary>
    public static void Describe(FatPlan plan, DeviceInfo info)
    {
        FatGeometry geometry = plan.Geometry;
        int folders = 0;
        for (int entry = 1; entry < plan.Table.Count; entry++)
        {
            folders += (plan.Table[entry].Attributes & FatAttributes.Directory) != 0 ? 1 : 0;
        }

        info.IsOfTheDisk = true;
        info.ClusterSize = geometry.ClusterSize;
        Add(info, "fat-type", (long)geometry.Type);
        Add(info, "label", plan.Volume.Label?.ToString() ?? "");
        Add(info, "volume-id", plan.Volume.SerialNumber.ToString("x8", CultureInfo.InvariantCulture));
        Add(info, "files", plan.Table.Count - 1L - folders);
        Add(info, "folders", (long)folders);
        Add(info, "free-bytes", (long)(geometry.ClusterCount - plan.UsedClusters) * geometry.ClusterSize);
    }

    private static void Add(DeviceInfo info, string key, object value) => info.FormatSpecific.Add(new(key, value));
}
