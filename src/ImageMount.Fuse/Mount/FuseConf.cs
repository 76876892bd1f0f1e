namespace ImageMount.Fuse.Mount;

/// <summary>/etc/fuse.conf, which fusermount3 obeys.</summary>
public static class FuseConf
{
    /// <summary>Where it is.</summary>
    public const string Path = "/etc/fuse.conf";

    /// <summary>True when ordinary users may ask for allow_other.</summary>
    public static bool AllowsOther(string file = Path)
    {
        try
        {
            return File.ReadLines(file).Any(line => line.Trim() == "user_allow_other");
        }
        catch (IOException)
        {
            return false;
        }
        catch (UnauthorizedAccessException)
        {
            return true; // we may not look, but fusermount3 will
        }
    }
}
