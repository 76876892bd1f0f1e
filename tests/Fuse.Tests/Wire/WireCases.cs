namespace ImageMount.Fuse.Tests.Wire;

/// <summary>One opcode's literal conversation.</summary>
/// <param name="Body">What follows the request's header.</param>
/// <param name="Reply">What follows the reply's header on success; null: no reply at all.</param>
/// <param name="Call">What the file system must have been asked.</param>
/// <param name="Error">The errno of the reply, when it is one whatever the file system does.</param>
internal sealed record WireCase(string Body, string? Reply, string Call, int Error = 0);

/// <summary>A conversation for every row of the opcode table, by number (linux/fuse.h).</summary>
internal static class WireCases
{
    // The file system's fixed answers, as the kernel wants them.
    private const string Attr =
        "8:77 8:0x123456789 8:8 8:1 8:3 8:5 4:2 4:4 4:6 4:0x81a4 4:9 4:10 4:11 4:12 4:4096 4:0";
    private const string EntryHead = "8:77 8:13 8:14 8:1 4:0 4:500000000";
    private const string Entry = $"{EntryHead} {Attr}";
    private const string AttrOut = $"8:1 4:500000000 4:0 {Attr}";
    private const string Open = "8:99 4:0x81 4:3";
    private const string Statx =
        "8:1 4:500000000 4:0 z16 "
        + "4:0xfff 4:4096 8:0 4:9 4:10 4:11 2:0x81a4 2:0 8:77 8:0x123456789 8:8 8:0 "
        + "8:1 4:2 4:0 8:15 4:16 4:0 8:5 4:6 4:0 8:3 4:4 4:0 4:0 4:12 z8 z112";

    public static IReadOnlyDictionary<uint, WireCase> All { get; } = new Dictionary<uint, WireCase>
    {
        [1] = new("'file.x' 0", Entry, "lookup 5 file.x uid=1000 gid=1001 pid=42"),
        [2] = new("8:3", null, "forget 5 3"),
        [3] = new("4:1 4:0 8:99", AttrOut, "getattr 5 99"),
        [4] = new(
            "4:0x1ff 4:0 8:99 8:4096 8:0 8:21 8:22 8:23 4:31 4:32 4:33 4:0x8180 4:0 4:41 4:42 4:0",
            AttrOut, "setattr 5 511 fh=99 size=4096 mode=33152 uid=41 gid=42 a=21.31 m=22.32 c=23.33"),
        [5] = new("", "'to/there'", "readlink 5 4095"),
        [6] = new("'link' 0 '../to/it' 0", Entry, "symlink 5 link -> ../to/it"),
        [8] = new("4:0x8180 4:0x0801 4:0x12 4:0 'node' 0", Entry, "mknod 5 node 33152 2049"),
        [9] = new("4:0x41ed 4:0x12 'dir' 0", Entry, "mkdir 5 dir 16877"),
        [10] = new("'gone' 0", "", "unlink 5 gone"),
        [11] = new("'gone' 0", "", "rmdir 5 gone"),
        [12] = new("8:6 'old' 0 'new' 0", "", "rename 5 old 6 new 0"),
        [13] = new("8:70 'other' 0", Entry, "link 70 5 other"),
        [14] = new("4:0x8002 4:0", Open, "open 5 32770"),
        [15] = new("8:99 8:0x100000000 4:4096 4:0 8:0 4:0x8000 4:0", "'0123456789'", "read 5 99 4294967296 4096"),
        [16] = new(
            "8:99 8:0x100000000 4:5 4:1 8:0 4:0x9001 4:0 'hello'", "4:5 4:0",
            "write 5 99 4294967296 hello 1 36865 True"),
        [17] = new("", "8:1 8:2 8:3 8:4 8:5 4:6 4:7 4:8 4:0 z24", "statfs 5"),
        [18] = new("8:99 4:0x8000 4:0 8:0", "", "release 5 99 32768"),
        [20] = new("8:99 4:1 4:0", "", "fsync 5 99 True"),
        [21] = new("4:3 4:1 4:0 4:0 'user.x' 0 'abc'", "", "setxattr 5 user.x abc 1"),
        [22] = new("4:100 4:0 'user.x' 0", "'value'", "getxattr 5 user.x 100"),
        [23] = new("4:100 4:0", "'user.a' 0", "listxattr 5 100"),
        [24] = new("'user.x' 0", "", "removexattr 5 user.x"),
        [25] = new("8:99 4:0 4:0 8:0", "", "flush 5 99"),
        [26] = new("4:7 4:45 4:131072 4:0 4:0 z44", null, "", Errno.EIO), // a second INIT; see NegotiationTests
        [27] = new("4:0x18800 4:0", Open, "opendir 5 100352"),
        [28] = new(
            "8:99 8:0 4:4096 4:0 8:0 4:0 4:0",
            "8:77 8:1 4:2 4:8 'ab' z6 8:78 8:2 4:10 4:0 'longername' z6", "readdir 5 99 0 False True True"),
        [29] = new("8:99 4:0x18800 4:0 8:0", "", "releasedir 5 99 100352"),
        [30] = new("8:99 4:0 4:0", "", "fsyncdir 5 99 False"),
        [31] = new("8:99 8:1 8:0 8:10 4:1 4:42 4:0 4:0", null, "", Errno.ENOSYS),
        [32] = new("8:99 8:1 8:0 8:10 4:1 4:42 4:0 4:0", null, "", Errno.ENOSYS),
        [33] = new("8:99 8:1 8:0 8:10 4:1 4:42 4:0 4:0", null, "", Errno.ENOSYS),
        [34] = new("4:6 4:0", "", "access 5 6"),
        [35] = new("4:0x8042 4:0x81a4 4:0x12 4:0 'new.x' 0", $"{Entry} 8:99 4:0 4:0", "create 5 new.x 33188 32834"),
        [36] = new("8:4242", null, "", Errno.EAGAIN), // nothing by that number: the kernel is to ask again
        [37] = new("8:1 4:4096 4:0", null, "", Errno.ENOSYS),
        [38] = new("", "", "destroy"),
        [39] = new("8:99 4:0 4:0x1234 8:77 4:2 4:8 'IN'", "4:5 4:0 4:0 4:0 'OUT'", "ioctl 5 99 4660 77 0 IN 8"),
        [40] = new("8:99 8:7 4:1 4:5", "4:4 4:0", "poll 5 99 7 1 5"),
        [41] = new("8:0 8:0 4:0 4:0 8:0 8:0", null, ""),
        [42] = new("4:2 4:0 8:11 8:1 8:12 8:2", null, "forget 12 2"),
        [43] = new("8:99 8:4096 8:8192 4:3 4:0", "", "fallocate 5 99 4096 8192 3"),
        [44] = new(
            "8:99 8:0 4:4096 4:0 8:0 4:0 4:0",
            $"{Entry} 8:77 8:1 4:2 4:8 'ab' z6 "
            + "8:78 8:13 8:14 8:0 4:0 4:0 8:78 z80 8:78 8:2 4:10 4:0 'longername' z6",
            "readdir 5 99 0 True True True"),
        [45] = new("8:6 4:1 4:0 'old' 0 'new' 0", "", "rename 5 old 6 new 1"),
        [46] = new("8:99 8:4096 4:4 4:0", "8:0x100000001", "lseek 5 99 4096 4"),
        [47] = new("8:99 8:1 8:6 8:98 8:2 8:4096 8:0", "4:4096 4:0", "copy 5 99 1 6 98 2 4096 0"),
        [48] = new("8:99 8:0 8:4096 8:0 8:0", null, "", Errno.ENOSYS),
        [49] = new("4:1 8:0 8:4096", null, "", Errno.ENOSYS),
        [50] = new("8:0", "", "syncfs 5"),
        [51] = new("4:0x410042 4:0x81a4 4:0x12 4:0 '/' 0", $"{Entry} 8:99 4:0 4:0", "tmpfile 5 33188 4259906"),
        [52] = new("4:1 4:0 8:99 4:0 4:0xfff", Statx, "statx 5 99 0 4095"),
        [53] = new(
            "8:99 8:1 8:6 8:98 8:2 8:0x200000000 8:0", "8:0x200000000", "copy 5 99 1 6 98 2 8589934592 0"),
    };
}
