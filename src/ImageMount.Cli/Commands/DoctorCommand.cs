using ImageMount.Cli.Output;
using ImageMount.Interop;
using ImageMount.Mounting.Reports;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount doctor`: what this machine has of the things that imgmount can use, and what to install.</summary>
internal static class DoctorCommand
{
    public static int Run(DoctorArguments arguments)
    {
        Arguments.NoMore(arguments.Rest, "doctor");
        IReadOnlyList<Finding> findings = Look();
        if (arguments.Json)
        {
            Console.Out.Write(System.Text.Encoding.UTF8.GetString(Json(findings)));
        }
        else
        {
            var table = new PlainTable("WHAT", "STATE", "FOR");
            foreach (Finding finding in findings)
            {
                table.Add(finding.What, finding.State, finding.Use);
            }

            table.Write();
            foreach (Finding finding in findings.Where(finding => finding.Advice is not null))
            {
                Console.Out.WriteLine($"{finding.What}: {finding.Advice}");
            }
        }

        return findings.Any(finding => finding is { IsEssential: true, IsThere: false }) ? ExitCode.Failed : ExitCode.Done;
    }

    private static List<Finding> Look()
    {
        bool isRoot = Environment.IsPrivilegedProcess;
        string? helper = FindProgram("fusermount3");
        string? ssh = FindProgram("ssh");
        return
        [
            Device(),
            new(
                "fusermount3", helper is not null, helper ?? "missing", "mounting as an ordinary user",
                helper is null ? "install the package fuse3" : null) { IsEssential = !isRoot },
            Uring(),
            Library(LibDeflate.FileName, LibDeflate.DebianPackage, LibDeflate.IsAvailable, "compressed images; faster, not needed"),
            Library(Bzip2Library.FileName, Bzip2Library.DebianPackage, Bzip2Library.IsAvailable, "dmg, bzip2"),
            Library(LzmaLibrary.FileName, LzmaLibrary.DebianPackage, LzmaLibrary.IsAvailable, "dmg, xz"),
            Library(ZstdLibrary.FileName, ZstdLibrary.DebianPackage, ZstdLibrary.IsAvailable, "qcow2, zstd"),
            Library(GnuTlsLibrary.FileName, GnuTlsLibrary.DebianPackage, GnuTlsLibrary.IsAvailable, "nbd (pre-shared keys)"),
            Library(IscsiLibrary.FileName, IscsiLibrary.DebianPackage, IscsiLibrary.IsAvailable, "iscsi"),
            Library(GfapiLibrary.FileName, GfapiLibrary.DebianPackage, GfapiLibrary.IsAvailable, "gluster"),
            Library("libssl.so.3", "libssl3", "nbd (TLS by certificates)"),
            new("ssh", ssh is not null, ssh ?? "missing", "ssh", ssh is null ? "install the package openssh-client" : null),
        ];
    }

    private static Finding Device()
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle? device =
            SysOpen.TryOpen("/dev/fuse", SysOpen.O_RDWR, out int errno);
        return new Finding(
            "/dev/fuse", device is not null, device is not null ? "ok" : Errno.Describe(errno), "mounting",
            device is not null ? null
                : errno == Errno.ENOENT ? "load the kernel module: modprobe fuse" : "it must be open to you: see its mode")
        {
            IsEssential = true,
        };
    }

    private static Finding Uring()
    {
        const string Flag = "/sys/module/fuse/parameters/enable_uring";
        string state = "not in this kernel";
        try
        {
            state = File.Exists(Flag) ? File.ReadAllText(Flag).Trim() is "Y" or "1" ? "on" : "off" : state;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            state = "cannot be read";
        }

        return new Finding("FUSE over io_uring", state == "on", state, "a faster way to the kernel; not needed", null);
    }

    private static Finding Library(string file, string package, string use) =>
        Library(file, package, System.Runtime.InteropServices.NativeLibrary.TryLoad(file, out _), use);

    private static Finding Library(string file, string package, bool isThere, string use) => new(
        file, isThere, isThere ? "ok" : "missing", use, isThere ? null : $"install the package {package}")
    { Package = package };

    private static string? FindProgram(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/bin").Append("/bin")
            .Where(folder => folder.Length > 0).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);

    private static byte[] Json(IReadOnlyList<Finding> findings) => ReportJson.Make(json =>
    {
        json.WriteStartArray();
        foreach (Finding finding in findings)
        {
            json.WriteStartObject();
            json.WriteString("what", finding.What);
            json.WriteBoolean("present", finding.IsThere);
            json.WriteString("state", finding.State);
            json.WriteString("for", finding.Use);
            json.WriteBoolean("essential", finding.IsEssential);
            if (finding.Package is not null)
            {
                json.WriteString("package", finding.Package);
            }

            if (finding.Advice is not null)
            {
                json.WriteString("advice", finding.Advice);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    private sealed record Finding(string What, bool IsThere, string State, string Use, string? Advice)
    {
        public bool IsEssential { get; init; }

        public string? Package { get; init; }
    }
}
