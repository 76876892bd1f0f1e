namespace ImageMount.Fuse.Abi;

/// <summary>Sizes of the kernel's structures in bytes (linux/fuse.h; its name in the comment).</summary>
internal static class WireSize
{
    public const int InHeader = 40;          // fuse_in_header
    public const int OutHeader = 16;         // fuse_out_header
    public const int Attr = 88;              // fuse_attr
    public const int EntryOut = 128;         // fuse_entry_out
    public const int AttrOut = 104;          // fuse_attr_out
    public const int OpenOut = 16;           // fuse_open_out
    public const int WriteOut = 8;           // fuse_write_out
    public const int StatfsOut = 80;         // fuse_statfs_out
    public const int GetxattrOut = 8;        // fuse_getxattr_out
    public const int LseekOut = 8;           // fuse_lseek_out
    public const int CopyFileRangeOut = 8;   // fuse_copy_file_range_out
    public const int PollOut = 8;            // fuse_poll_out
    public const int IoctlOut = 16;          // fuse_ioctl_out
    public const int StatxOut = 288;         // fuse_statx_out
    public const int InitOut = 64;           // fuse_init_out
    public const int Dirent = 24;            // fuse_dirent, without the name
}
