using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>How a volume is known to its readers.</summary>
/// <param name="Label">11 bytes, as stored in the root folder and in the boot sector; null for none.</param>
/// <param name="SerialNumber">BS_VolID, the same for the same folder.</param>
/// <param name="DiskId">Id of the disk in its partition table, the same for the same folder.</param>
/// <param name="LabelTimes">Times of the label's directory entry.</param>
internal sealed record VolumeIdentity(ShortName83? Label, uint SerialNumber, uint DiskId, FatTimestamps LabelTimes);
