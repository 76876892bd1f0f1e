using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// What is needed to log in, from the options, the environment and QEMU's configuration file, in this order; and to be
/// found out once, because a session may be made again much later.
/// </summary>
internal sealed record IscsiSettings
{
    /// <summary>What qemu-img calls itself, so that access lists made for it fit.</summary>
    private const string DefaultInitiator = "iqn.2008-11.org.linux-kvm";

    private IscsiSettings()
    {
    }

    /// <summary>The portal.</summary>
    public required RemoteAddress Address { get; init; }

    /// <summary>As whom, and to what.</summary>
    public required IscsiLogin Login { get; init; }

    /// <summary>
    /// The unit as it stands in a command: peripheral addressing, or flat addressing for large numbers (SAM-5, 4.7).
    /// </summary>
    public required int Lun { get; init; }

    /// <summary>Seconds; 0: for ever.</summary>
    public required int Timeout { get; init; }

    /// <summary>Finds everything out.</summary>
    public static IscsiSettings Find(IscsiOptions options, SecretStore secrets)
    {
        RemoteAddress address = IscsiUri.AddressOf(options);
        if (options.Transport != IscsiTransport.Tcp)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "iSCSI over RDMA (iser) is not supported")
            {
                Expected = "'transport' tcp",
            };
        }

        string target = Text(options.Target!, "target");
        string? file = options.Config ?? secrets.IscsiConfig;
        IscsiConfig config = string.IsNullOrEmpty(file) ? new IscsiConfig() : IscsiConfig.Read(file, target);
        (string User, string Password)? chap = FindChap(options, config, address, target, secrets);
        (string User, string Password)? back = FindTargetChap(options, secrets);
        if (back is not null && chap is null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "a target can only prove who it is to somebody who does so too")
            {
                Expected = "'user' and 'password-secret' beside 'target-user'",
            };
        }

        return new IscsiSettings
        {
            Address = address,
            Lun = options.Lun < 256 ? options.Lun : 0x4000 | options.Lun,
            Timeout = options.Timeout ?? config.Timeout ?? 30,
            Login = new IscsiLogin
            {
                Initiator = Text(options.InitiatorName ?? config.InitiatorName ?? DefaultInitiator, "initiator-name"),
                Target = target,
                Chap = chap,
                TargetChap = back,
                HeaderDigest = (int)(options.HeaderDigest ?? config.HeaderDigest ?? IscsiHeaderDigest.NoneCrc32C),
                SessionId = (uint)RandomNumberGenerator.GetInt32(1 << 24),
            },
        };
    }

    /// <inheritdoc/>
    public override string ToString() => "(iscsi settings)";

    private static (string User, string Password)? FindChap(
        IscsiOptions options, IscsiConfig config, RemoteAddress address, string target, SecretStore secrets)
    {
        string? user = options.User;
        string? password = PasswordOf(options.Password, options.PasswordSecret, "password", secrets);
        string origin = $"iscsi://{address.Shown}/{target}";
        if (password is null && secrets.FindLogin(origin, user) is { } known)
        {
            return (known.User, Remote.Login.TextOf(known.Password, origin));
        }

        string? itsUser = Environment.GetEnvironmentVariable("LIBISCSI_CHAP_USERNAME");
        if (password is null && !string.IsNullOrEmpty(itsUser) && (user is null || user == itsUser)
            && Environment.GetEnvironmentVariable("LIBISCSI_CHAP_PASSWORD") is { Length: > 0 } itsPassword)
        {
            (user, password) = (itsUser, itsPassword);
        }

        if (password is null && (user is null || config.User is null || user == config.User)
            && PasswordOf(config.Password, config.PasswordSecret, "password", secrets) is { } configured)
        {
            (user, password) = (user ?? config.User, configured);
        }

        if (password is null && user is not null && Netrc.Find(null, address.Host, user) is { } entry)
        {
            password = entry.Password;
        }

        user ??= password is null ? config.User : null;
        if (user is null && password is null)
        {
            return null;
        }

        if (string.IsNullOrEmpty(user) || string.IsNullOrEmpty(password))
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument,
                string.IsNullOrEmpty(user) ? "there is a password, but no user name" : $"there is no password for '{user}'")
            {
                Hint = "Give 'user' and 'password-secret', with --object secret,id=ID,file=FILE.",
            };
        }

        // For images beside this one (a backing file), which name the target, but no password.
        secrets.RememberLogin(origin, user, new Secret(Encoding.UTF8.GetBytes(password)));
        return (Text(user, "user"), Text(password, "password"));
    }

    private static (string User, string Password)? FindTargetChap(IscsiOptions options, SecretStore secrets)
    {
        string? user = options.TargetUser;
        string? password = PasswordOf(options.TargetPassword, options.TargetPasswordSecret, "target-password", secrets);
        if (user is null && password is null)
        {
            user = Environment.GetEnvironmentVariable("LIBISCSI_CHAP_TARGET_USERNAME");
            password = Environment.GetEnvironmentVariable("LIBISCSI_CHAP_TARGET_PASSWORD");
            if (string.IsNullOrEmpty(user) || string.IsNullOrEmpty(password))
            {
                return null;
            }
        }

        return string.IsNullOrEmpty(user) || string.IsNullOrEmpty(password)
            ? throw new BlockException(
                BlockErrorKind.InvalidArgument, "'target-user' and 'target-password-secret' belong together")
            : (Text(user, "target-user"), Text(password, "target-password"));
    }

    private static string? PasswordOf(string? plain, string? secretId, string option, SecretStore secrets)
    {
        if (plain is not null && secretId is not null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, $"only one of '{option}' and '{option}-secret' can be given");
        }

        return secretId is not null ? Remote.Login.TextOf(secrets.Get(secretId), secretId) : plain;
    }

    /// <summary>The library would cut off what is longer, and take part of it for something else.</summary>
    private static string Text(string text, string option)
    {
        if (text.Length == 0 || Encoding.UTF8.GetByteCount(text) > IscsiLibrary.MaxText)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"'{option}' is empty or too long")
            {
                Expected = $"1 to {IscsiLibrary.MaxText} bytes",
            };
        }

        return !text.AsSpan().ContainsAnyInRange('\0', '\x1F')
            ? text : throw new BlockException(BlockErrorKind.InvalidArgument, $"'{option}' has a control character in it");
    }
}
