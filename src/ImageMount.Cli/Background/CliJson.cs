using System.Buffers;
using System.Security.Cryptography;
using System.Text.Json;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Fuse;
using ImageMount.Mounting;

namespace ImageMount.Cli.Background;

/// <summary>
/// The records that travel between our processes, as JSON, written and read by hand: the serializer's generic code is
/// not part of any ready-to-run image, and compiling it took longer than everything else a mount does.
/// </summary>
internal static class CliJson
{
    /// <summary>Largest text that is read.</summary>
    public const int MaxSize = 256 << 10;

    /// <summary>Longest request: secrets are large, and larger in base64.</summary>
    public const int MaxRequest = 64 << 20;

    /// <summary>A request, with its secrets; the buffer is wiped when disposed.</summary>
    public static WipedBuffer Write(MountRequest request)
    {
        var buffer = new WipedBuffer();
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        WriteRequest(json, request);
        json.WriteStartObject("secrets");
        foreach (string id in request.Secrets.Ids)
        {
            json.WriteBase64String(id, request.Secrets.Get(id).Span);
        }

        json.WriteEndObject();
        json.WriteStartObject("answers");
        foreach ((string what, Secret answer) in request.Secrets.Answers)
        {
            json.WriteBase64String(what, answer.Span);
        }

        json.WriteEndObject();
        WriteTls(json, request.Secrets);
        if (request.Secrets.Default is { } passphrase)
        {
            json.WriteBase64String("passphrase", passphrase.Span);
        }

        json.WriteEndObject();
        json.Flush();
        return buffer;
    }

    private static void WriteTls(Utf8JsonWriter json, SecretStore secrets)
    {
        json.WriteStartArray("tls");
        foreach (TlsCredentials credentials in secrets.AllTls)
        {
            var x509 = credentials as TlsX509Credentials;
            var psk = credentials as TlsPskCredentials;
            json.WriteStartObject();
            json.WriteBoolean("psk", psk is not null);
            json.WriteString("id", credentials.Id);
            json.WriteString("dir", credentials.Directory);
            json.WriteBoolean("verify-peer", x509?.VerifyPeer ?? true);
            json.WriteString("passwordid", x509?.PasswordId);
            json.WriteString("username", psk?.UserName);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static TlsCredentials ReadTls(JsonElement item)
    {
        string id = item.GetProperty("id").GetString()!;
        string? folder = item.GetProperty("dir").GetString();
        return item.GetProperty("psk").GetBoolean()
            ? new TlsPskCredentials
            {
                Id = id,
                Directory = folder,
                UserName = item.GetProperty("username").GetString()!,
            }
            : new TlsX509Credentials
            {
                Id = id,
                Directory = folder,
                VerifyPeer = item.GetProperty("verify-peer").GetBoolean(),
                PasswordId = item.GetProperty("passwordid").GetString(),
            };
    }

    private static void WriteRequest(Utf8JsonWriter json, MountRequest request)
    {
        ImageRequest image = request.Image;
        json.WriteString("source", image.Source);
        json.WriteBoolean("image-opts", image.IsOptions);
        json.WriteString("format", image.Format);
        json.WriteBoolean("force-share", image.ForceShare);
        json.WriteNumber("locking", (int)image.Locking);
        json.WriteBoolean("allow-external", image.AllowExternal);
        json.WriteBoolean("spool", image.Spool);
        json.WriteString("offset", image.Offset);
        json.WriteString("size", image.Size);
        json.WriteString("fat-unsupported", image.FatUnsupported);
        json.WriteBoolean("fat-refresh", image.FatRefresh);
        json.WriteBoolean("overlay", image.Overlay);
        json.WriteString("mountpoint", request.MountPoint);
        json.WriteBoolean("read-only", request.ReadOnly);
        json.WriteNumber("cache", (int)request.Cache);
        json.WriteBoolean("discard", request.Discard);
        json.WriteBoolean("growable", request.Growable);
        json.WriteBoolean("allow-other", request.AllowOther);
        json.WriteBoolean("nonempty", request.NonEmpty);
        json.WriteNumber("uid", (long?)request.Uid ?? -1);
        json.WriteNumber("gid", (long?)request.Gid ?? -1);
        json.WriteNumber("mode", (long?)request.Mode ?? -1);
        json.WriteString("transport", request.Transport.ToString());
        json.WriteNumber("threads", request.Threads);
        json.WriteString("pidfile", request.PidFile);
        json.WriteString("log-file", request.LogFile);
        json.WriteBoolean("debug", request.Debug);
    }

    /// <summary>Reads a request; wiping the text is the caller's business.</summary>
    public static MountRequest ReadRequest(ReadOnlyMemory<byte> text)
    {
        using JsonDocument document = JsonDocument.Parse(text);
        JsonElement root = document.RootElement;
        return new MountRequest
        {
            Image = new ImageRequest
            {
                Source = root.GetProperty("source").GetString()!,
                IsOptions = root.GetProperty("image-opts").GetBoolean(),
                Format = root.GetProperty("format").GetString(),
                ForceShare = root.GetProperty("force-share").GetBoolean(),
                Locking = (LockingMode)root.GetProperty("locking").GetInt32(),
                AllowExternal = root.GetProperty("allow-external").GetBoolean(),
                Spool = root.GetProperty("spool").GetBoolean(),
                Offset = root.GetProperty("offset").GetString(),
                Size = root.GetProperty("size").GetString(),
                FatUnsupported = root.GetProperty("fat-unsupported").GetString(),
                FatRefresh = root.GetProperty("fat-refresh").GetBoolean(),
                Overlay = root.GetProperty("overlay").GetBoolean(),
            },
            MountPoint = root.GetProperty("mountpoint").GetString()!,
            ReadOnly = root.GetProperty("read-only").GetBoolean(),
            Cache = (CacheMode)root.GetProperty("cache").GetInt32(),
            Discard = root.GetProperty("discard").GetBoolean(),
            Growable = root.GetProperty("growable").GetBoolean(),
            AllowOther = root.GetProperty("allow-other").GetBoolean(),
            NonEmpty = root.GetProperty("nonempty").GetBoolean(),
            Uid = Optional(root.GetProperty("uid").GetInt64()),
            Gid = Optional(root.GetProperty("gid").GetInt64()),
            Mode = Optional(root.GetProperty("mode").GetInt64()),
            Transport = Enum.Parse<FuseTransportKind>(root.GetProperty("transport").GetString()!),
            Threads = root.GetProperty("threads").GetInt32(),
            PidFile = root.GetProperty("pidfile").GetString(),
            LogFile = root.GetProperty("log-file").GetString(),
            Debug = root.GetProperty("debug").GetBoolean(),
            Secrets = ReadSecrets(root),
        };
    }

    private static SecretStore ReadSecrets(JsonElement root)
    {
        var store = new SecretStore();
        foreach (JsonProperty secret in root.GetProperty("secrets").EnumerateObject())
        {
            store.Add(secret.Name, ReadSecret(secret.Value));
        }

        foreach (JsonElement credentials in root.GetProperty("tls").EnumerateArray())
        {
            store.AddTls(ReadTls(credentials));
        }

        foreach (JsonProperty answer in root.GetProperty("answers").EnumerateObject())
        {
            store.Remember(answer.Name, ReadSecret(answer.Value));
        }

        if (root.TryGetProperty("passphrase", out JsonElement passphrase))
        {
            store.Default = ReadSecret(passphrase);
        }

        return store;
    }

    private static Secret ReadSecret(JsonElement value)
    {
        byte[] bytes = value.GetBytesFromBase64();
        var secret = new Secret(bytes);
        CryptographicOperations.ZeroMemory(bytes);
        return secret;
    }

    public static byte[] Write(ReadyReport report) => Make(json =>
    {
        json.WriteBoolean("ready", report.IsReady);
        json.WriteString("error", report.Error);
        json.WriteString("needs-passphrase-of", report.NeedsPassphraseOf);
        json.WriteString("detail", report.Detail);
        json.WriteStartArray("warnings");
        foreach (string warning in report.Warnings)
        {
            json.WriteStringValue(warning);
        }

        json.WriteEndArray();
    });

    public static ReadyReport ReadReport(byte[] text)
    {
        using JsonDocument document = JsonDocument.Parse(text);
        JsonElement root = document.RootElement;
        var warnings = new List<string>();
        foreach (JsonElement warning in root.GetProperty("warnings").EnumerateArray())
        {
            warnings.Add(warning.GetString()!);
        }

        return new ReadyReport
        {
            IsReady = root.GetProperty("ready").GetBoolean(),
            Error = root.GetProperty("error").GetString(),
            NeedsPassphraseOf = root.GetProperty("needs-passphrase-of").GetString(),
            Detail = root.GetProperty("detail").GetString(),
            Warnings = warnings,
        };
    }

    public static byte[] Write(MountState state) => Make(json =>
    {
        json.WriteNumber("pid", state.Pid);
        json.WriteNumber("start-time", state.StartTime);
        json.WriteString("source", state.Source);
        json.WriteString("source-path", state.SourcePath);
        json.WriteString("mountpoint", state.MountPoint);
        json.WriteString("format", state.Format);
        json.WriteBoolean("read-only", state.ReadOnly);
        json.WriteString("cache", state.Cache);
        json.WriteBoolean("overlay", state.Overlay);
        json.WriteString("started", state.Started);
        json.WriteString("log-file", state.LogFile);
        json.WriteString("failure", state.Failure);
    });

    /// <summary>
    /// Null when the text is not what we write: notes outlive processes, and versions of this program.
    /// </summary>
    public static MountState? ReadState(byte[] text)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            JsonElement root = document.RootElement;
            return new MountState
            {
                Pid = root.GetProperty("pid").GetInt32(),
                StartTime = root.GetProperty("start-time").GetUInt64(),
                Source = root.GetProperty("source").GetString() ?? "",
                SourcePath = root.GetProperty("source-path").GetString(),
                MountPoint = root.GetProperty("mountpoint").GetString() ?? "",
                Format = root.GetProperty("format").GetString() ?? "",
                ReadOnly = root.GetProperty("read-only").GetBoolean(),
                Cache = root.GetProperty("cache").GetString() ?? "",
                Overlay = root.GetProperty("overlay").GetBoolean(),
                Started = root.GetProperty("started").GetDateTimeOffset(),
                LogFile = root.GetProperty("log-file").GetString(),
                Failure = root.GetProperty("failure").GetString(),
            };
        }
        catch (Exception e) when (
            e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            return null;
        }
    }

    private static byte[] Make(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        return buffer.WrittenSpan.ToArray();
    }

    private static uint? Optional(long value) => value < 0 ? null : (uint)value;
}
