using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Luks;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>How the payload of a qcow2 image is encrypted.</summary>
public enum Qcow2EncryptionFormat
{
    /// <summary>A LUKS1 header inside the image ("Full disk encryption header pointer").</summary>
    Luks,

    /// <summary>The older way: AES-128-CBC, the passphrase itself is the key. Weak.</summary>
    Aes,
}

/// <summary>The encryption of an open image: its cipher, and the LUKS header where there is one.</summary>
internal sealed class Qcow2Encryption : IDisposable
{
    private readonly LuksArea? _area;
    private readonly LuksKeys? _keys;
    private readonly SemaphoreSlim _gate = new(1, 1);
    private LuksHeader? _luks;

    private Qcow2Encryption(PayloadCipher cipher, LuksArea? area, LuksHeader? luks, LuksKeys? keys)
    {
        Cipher = cipher;
        _area = area;
        _luks = luks;
        _keys = keys;
    }

    /// <summary>For the payload.</summary>
    public PayloadCipher Cipher { get; }

    /// <summary>Unlocks an image; null when it is not encrypted.</summary>
    public static async ValueTask<Qcow2Encryption?> OpenAsync(
        OpenContext context, BlockNode file, Qcow2Header header, Qcow2Options options,
        CancellationToken cancellationToken)
    {
        Qcow2EncryptionFormat? format = header.CryptMethod switch
        {
            Qcow2Layout.CryptAes => Qcow2EncryptionFormat.Aes,
            Qcow2Layout.CryptLuks => Qcow2EncryptionFormat.Luks,
            _ => null,
        };
        if (options.EncryptFormat is { } expected && format != expected)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the image is not encrypted as the options say")
            {
                Found = format?.ToString().ToLowerInvariant() ?? "no encryption",
                Expected = expected.ToString().ToLowerInvariant(),
            };
        }

        bool locked = context.Flags.StaysLocked(options.KeySecret);
        if (format is null)
        {
            return null;
        }

        if (format == Qcow2EncryptionFormat.Aes)
        {
            return new Qcow2Encryption(OldQcowCipher.Open(context, options.KeySecret), null, null, null);
        }

        Qcow2EncryptionExtension place = header.Encryption!.Value;
        var area = new LuksArea(file, (long)place.Offset.Value, (long)place.Length.Value);
        LuksHeader luks = await LuksHeader.ReadAsync(area, cancellationToken).ConfigureAwait(false);
        if (luks.Version != 1)
        {
            throw BlockException.Unsupported("the encryption header is LUKS2, which qcow2 does not have");
        }

        if (locked)
        {
            return new Qcow2Encryption(PayloadCipher.Locked, area, luks, null);
        }

        Secret passphrase = context.Flags.Secrets.Passphrase(options.KeySecret, context.NodeName);
        LuksKeys keys = await LuksUnlock.OpenAsync(area, luks, passphrase, null, cancellationToken).ConfigureAwait(false);
        try
        {
            LuksSegment segment = luks.Segments[0];
            return new Qcow2Encryption(
                PayloadCipher.ByHostOffset(segment.Cipher.Create(keys[segment.Digest].Span)), area, luks, keys);
        }
        catch
        {
            keys.Dispose();
            throw;
        }
    }

    /// <summary>What `info` shows, as qemu-img's JSON has it.</summary>
    public IEnumerable<KeyValuePair<string, object>> Facts() => Volatile.Read(ref _luks) is { } luks
        ? LuksDescribe.Facts(luks, "luks")
        : [new KeyValuePair<string, object>("format", "aes")];

    /// <summary>Changes key slots.</summary>
    public async ValueTask AmendAsync(
        LuksAmendOptions options, SecretStore secrets, bool force, CancellationToken cancellationToken)
    {
        if (_luks is null || _keys is null)
        {
            throw BlockException.Unsupported("images with the older AES encryption have no key slots");
        }

        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await new LuksKeySlots(_area!, _keys[_luks.Segments[0].Digest])
                .AmendAsync(options, secrets, force, cancellationToken).ConfigureAwait(false);
            Volatile.Write(ref _luks, await LuksHeader.ReadAsync(_area!, cancellationToken).ConfigureAwait(false));
        }
        finally
        {
            _gate.Release();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Cipher.Dispose();
        _keys?.Dispose();
    }
}

/// <summary>The encryption of an image that is being made.</summary>
public sealed record Qcow2NewEncryption
{
    private Qcow2NewEncryption(uint method, LuksNew? luks)
    {
        Method = method;
        Luks = luks;
    }

    /// <summary>crypt_method.</summary>
    public uint Method { get; }

    /// <summary>Bytes of the encryption header: up to where a LUKS payload would begin.</summary>
    public long Length => Luks?.PayloadOffset ?? 0;

    internal LuksNew? Luks { get; }

    /// <summary>Makes what options ask for; null for no encryption.</summary>
    internal static Qcow2NewEncryption? Make(Qcow2CreateOptions o, CreateContext context)
    {
        if (o.Encryption && o.EncryptFormat == Qcow2EncryptionFormat.Luks)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "encryption=on means encrypt.format=aes, not luks");
        }

        if (o.EncryptFormat is null && !o.Encryption)
        {
            return null;
        }

        Secret passphrase = context.Secrets.NewPassphrase(o.EncryptKeySecret, context.FileName);
        if (o.EncryptFormat != Qcow2EncryptionFormat.Luks)
        {
            context.Warn(OldQcowCipher.Warning);
            return new Qcow2NewEncryption(Qcow2Layout.CryptAes, null);
        }

        var options = new LuksCreateOptions
        {
            Cipher = o.EncryptCipher,
            Mode = o.EncryptMode,
            Iv = o.EncryptIv,
            IvHash = o.EncryptIvHash,
            Hash = o.EncryptHash,
            IterTimeMs = o.EncryptIterTimeMs,
            Iterations = o.EncryptIterations,
        };
        return new Qcow2NewEncryption(Qcow2Layout.CryptLuks, LuksNew.MakeV1(options, passphrase, compact: true));
    }
}
