using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>What `--object iscsi-config,…` takes: what QEMU reads with `-readconfig` for iSCSI.</summary>
public sealed record IscsiConfigObject
{
    /// <summary>Name; nothing refers to it.</summary>
    [Option("id", "Name; nothing refers to it.")]
    public string Id { get; init; } = "";

    /// <summary>The file.</summary>
    [Option("file", "File with [iscsi] and [iscsi \"target\"] sections.", Required = true)]
    public string File { get; init; } = "";
}

/// <summary>Reads the object for iSCSI of a command line.</summary>
internal static class IscsiArguments
{
    private const string Type = "iscsi-config,";

    /// <summary>True: it was one, and the store knows it now.</summary>
    public static bool TryRead(SecretStore store, string text)
    {
        if (!text.StartsWith(Type, StringComparison.Ordinal))
        {
            return false;
        }

        var o = OptionBinder.Bind<IscsiConfigObject>(OptionSyntax.ParsePairs(text[Type.Length..]), "--object iscsi-config");
        if (store.IscsiConfig is not null)
        {
            throw new UsageException("--object iscsi-config is given twice");
        }

        store.IscsiConfig = Path.GetFullPath(o.File);
        return true;
    }
}
