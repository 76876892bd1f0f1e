using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using ImageMount.Cli.Output;
using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>How bytes of a secret are written.</summary>
public enum SecretFormat
{
    /// <summary>As they are.</summary>
    Raw,

    /// <summary>In base64.</summary>
    Base64,
}

/// <summary>What `--object secret,…` takes, as QEMU has it.</summary>
public sealed record SecretObject
{
    /// <summary>Name by which options refer to it.</summary>
    [Core.Options.Option("id", "Name by which options refer to it.", Required = true)]
    public string Id { get; init; } = "";

    /// <summary>File that holds it.</summary>
    [Core.Options.Option("file", "File that holds it; every byte counts, a line end too.")]
    public string? File { get; init; }

    /// <summary>The secret itself.</summary>
    [Core.Options.Option("data", "The secret itself; anybody can see it in the list of processes.", IsSecret = true)]
    public string? Data { get; init; }

    /// <summary>How it is written.</summary>
    [Core.Options.Option("format", "How it is written.")]
    public SecretFormat Format { get; init; }

    /// <summary>Secret that it is encrypted with.</summary>
    [Core.Options.Option("keyid", "Id of an earlier secret of 32 bytes that this one is encrypted with (AES-256-CBC).")]
    public string? KeyId { get; init; }

    /// <summary>Initialisation vector.</summary>
    [Core.Options.Option("iv", "Initialisation vector of that, 16 bytes in base64.")]
    public string? Iv { get; init; }
}

/// <summary>Arguments of a command that may need secrets.</summary>
public interface ISecretArguments
{
    /// <summary>Of `--object`.</summary>
    IEnumerable<string> Objects { get; }

    /// <summary>Of `--passphrase-file`.</summary>
    string? PassphraseFile { get; }
}

/// <summary>Makes the secrets of a command line. They are wiped when the store is disposed.</summary>
internal static class SecretArguments
{
    private const string Type = "secret,";
    private const int MaxPassphraseFile = 8 << 20;

    /// <summary>The secrets that arguments name.</summary>
    /// <param name="arguments">The command line.</param>
    /// <param name="mayAsk">A person at the terminal may be asked for what is missing.</param>
    public static SecretStore Read(ISecretArguments arguments, bool mayAsk)
    {
        var store = new SecretStore { Ask = mayAsk ? Prompt.Asker() : null };
        try
        {
            foreach (string text in arguments.Objects)
            {
                AddObject(store, text);
            }

            if (arguments.PassphraseFile is { } file)
            {
                using Secret whole = ReadFile(file, MaxPassphraseFile);
                store.Default = new Secret(WithoutLineEnd(whole.Span));
            }

            return store;
        }
        catch
        {
            store.Dispose();
            throw;
        }
    }

    /// <summary>One line end at the end of a passphrase file is the editor's, not the passphrase's.</summary>
    internal static ReadOnlySpan<byte> WithoutLineEnd(ReadOnlySpan<byte> text) =>
        text.EndsWith("\r\n"u8) ? text[..^2] : text.EndsWith("\n"u8) ? text[..^1] : text;

    private static void AddObject(SecretStore store, string text)
    {
        if (TlsArguments.TryRead(text) is { } credentials)
        {
            store.AddTls(credentials);
            return;
        }

        if (IscsiArguments.TryRead(store, text))
        {
            return;
        }

        if (!text.StartsWith(Type, StringComparison.Ordinal))
        {
            string found = text.Split(',', '=')[0];
            throw new UsageException(
                $"--object does not know the type '{found}'", "It takes: secret,id=ID,file=FILE; "
                + "tls-creds-x509,id=ID,endpoint=client,dir=DIR; tls-creds-psk,id=ID,endpoint=client,dir=DIR,username=USER; "
                + "iscsi-config,file=FILE.");
        }

        var o = OptionBinder.Bind<SecretObject>(OptionSyntax.ParsePairs(text[Type.Length..]), "--object secret");
        if (o.File is null == o.Data is null)
        {
            throw new UsageException($"secret '{o.Id}' needs either file= or data=");
        }

        if (o.Data is not null)
        {
            Messages.Warn($"secret '{o.Id}' is on the command line, where every user of this machine can see it in the "
                + "list of processes; file= is safe");
        }

        using Secret stored = o.File is not null ? ReadFile(o.File, Secret.MaxLength) : OfText(o.Data!);
        if (o.KeyId is not null)
        {
            store.Add(o.Id, Decrypt(o, store.Get(o.KeyId), stored));
        }
        else if (o.Iv is not null)
        {
            throw new UsageException($"secret '{o.Id}' has an iv, but no keyid");
        }
        else
        {
            store.Add(o.Id, o.Format == SecretFormat.Base64 ? Decode(stored.Span, o.Id) : stored.Copy());
        }
    }

    /// <summary>As QEMU has it: base64 of AES-256-CBC with PKCS #7 padding.</summary>
    private static Secret Decrypt(SecretObject o, Secret key, Secret stored)
    {
        var iv = new byte[16];
        if (key.Length != 32 || o.Iv is null || !Convert.TryFromBase64String(o.Iv, iv, out int count) || count != 16)
        {
            throw new UsageException($"secret '{o.Id}' needs a key (keyid) of 32 bytes and an iv of 16 bytes in base64");
        }

        using Secret encrypted = Decode(stored.Span, o.Id);
        using var aes = Aes.Create();
        byte[] keyBytes = GC.AllocateUninitializedArray<byte>(32, pinned: true);
        key.Span.CopyTo(keyBytes);
        byte[] plain = GC.AllocateUninitializedArray<byte>(encrypted.Length + 16, pinned: true);
        try
        {
            aes.Key = keyBytes;
            if (!aes.TryDecryptCbc(encrypted.Span, iv, plain, out int length, PaddingMode.PKCS7))
            {
                throw new CryptographicException("too long");
            }

            using var decrypted = new Secret(plain.AsSpan(0, length));
            return o.Format == SecretFormat.Base64 ? Decode(decrypted.Span, o.Id) : decrypted.Copy();
        }
        catch (CryptographicException e)
        {
            throw new CommandException($"secret '{o.Id}' cannot be decrypted with '{o.KeyId}'", e);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(keyBytes);
            CryptographicOperations.ZeroMemory(plain);
        }
    }

    private static Secret Decode(ReadOnlySpan<byte> base64, string id)
    {
        byte[] bytes = GC.AllocateUninitializedArray<byte>(
            Base64.GetMaxDecodedFromUtf8Length(base64.Length), pinned: true);
        try
        {
            return Base64.DecodeFromUtf8(base64, bytes, out int consumed, out int written)
                == System.Buffers.OperationStatus.Done && consumed == base64.Length
                    ? new Secret(bytes.AsSpan(0, written))
                    : throw new UsageException($"secret '{id}' is not base64");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    private static Secret OfText(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        var secret = new Secret(bytes);
        CryptographicOperations.ZeroMemory(bytes);
        return secret;
    }

    private static Secret ReadFile(string path, int limit)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            using var buffer = new Background.WipedBuffer();
            buffer.ReadAll(file, limit);
            return new Secret(buffer.Written.Span);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new CommandException($"the secret in {path} cannot be read: {e.Message}", e);
        }
    }
}
