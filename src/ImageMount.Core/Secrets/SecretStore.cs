using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Secrets;

/// <summary>
/// The secrets that a user gave for one run: by id (<c>--object secret,id=…</c>), one for whatever asks first
/// (<c>--passphrase-file</c>), or a person at a terminal who is asked. Owned by whoever made it, wiped when disposed.
/// </summary>
public sealed class SecretStore : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Secret> _byId = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Secret> _asked = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string User, Secret Password)> _logins = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TlsCredentials> _tls = new(StringComparer.Ordinal);

    /// <summary>Used where an image names no secret; owned by the store.</summary>
    public Secret? Default { get; set; }

    /// <summary>
    /// File with QEMU's `[iscsi]` sections, absolute; null for none. It may hold passwords, and is read when needed.
    /// </summary>
    public string? IscsiConfig { get; set; }

    /// <summary>
    /// Asks a person; null where there is nobody to ask. The argument says for what: "passphrase of disk.luks".
    /// </summary>
    public Func<string, Secret?>? Ask { get; init; }

    /// <summary>True when nothing was given and nobody can be asked.</summary>
    public bool IsEmpty
    {
        get
        {
            lock (_lock)
            {
                return _byId.Count == 0 && _asked.Count == 0 && Default is null && Ask is null;
            }
        }
    }

    /// <summary>Ids in alphabetical order; for passing secrets on.</summary>
    public IReadOnlyList<string> Ids
    {
        get
        {
            lock (_lock)
            {
                return [.. _byId.Keys.Order(StringComparer.Ordinal)];
            }
        }
    }

    /// <summary>What a passphrase was wanted for when nobody could be asked; null when that has not happened.</summary>
    public string? Unanswered { get; private set; }

    /// <summary>What was answered so far, for passing it on; the secrets stay the store's.</summary>
    public IReadOnlyList<(string What, Secret Answer)> Answers
    {
        get
        {
            lock (_lock)
            {
                return [.. _asked.Select(pair => (pair.Key, pair.Value))];
            }
        }
    }

    /// <summary>Keeps an answer that was given elsewhere; the store owns it from here on.</summary>
    public void Remember(string what, Secret answer)
    {
        lock (_lock)
        {
            _asked.Add(what, answer);
        }
    }

    /// <summary>Asks a person now; false when there is nobody, or no new answer.</summary>
    public bool TryAsk(string what)
    {
        lock (_lock)
        {
            if (Default is not null || _asked.ContainsKey(what) || Ask?.Invoke(what) is not { } answer)
            {
                return false;
            }

            _asked.Add(what, answer);
            return true;
        }
    }

    /// <summary>Keeps a secret under an id; the store owns it from here on.</summary>
    public void Add(string id, Secret secret)
    {
        lock (_lock)
        {
            if (id.Length == 0 || !_byId.TryAdd(id, secret))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument, id.Length == 0 ? "a secret needs an id" : $"there are two secrets '{id}'");
            }
        }
    }

    /// <summary>The secret of an id; an unknown one is an InvalidArgument that names the nearest.</summary>
    public Secret Get(string id)
    {
        lock (_lock)
        {
            if (_byId.TryGetValue(id, out Secret? secret))
            {
                return secret;
            }

            string? nearest = NearestName.Find(id, _byId.Keys);
            throw new BlockException(BlockErrorKind.InvalidArgument, $"there is no secret '{id}'")
            {
                Hint = nearest is null ? $"Give it with --object secret,id={id},file=…" : $"Did you mean '{nearest}'?",
            };
        }
    }

    /// <summary>Credentials for TLS, in alphabetical order of their ids; they hold no secrets themselves.</summary>
    public IReadOnlyList<TlsCredentials> AllTls
    {
        get
        {
            lock (_lock)
            {
                return [.. _tls.Values.OrderBy(credentials => credentials.Id, StringComparer.Ordinal)];
            }
        }
    }

    /// <summary>Keeps credentials for TLS under their id.</summary>
    public void AddTls(TlsCredentials credentials)
    {
        lock (_lock)
        {
            if (credentials.Id.Length == 0 || _byId.ContainsKey(credentials.Id) || !_tls.TryAdd(credentials.Id, credentials))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument,
                    credentials.Id.Length == 0
                        ? "TLS credentials need an id" : $"there are two objects with the id '{credentials.Id}'");
            }
        }
    }

    /// <summary>The TLS credentials of an id; an unknown one is an InvalidArgument that names the nearest.</summary>
    public TlsCredentials GetTls(string id)
    {
        lock (_lock)
        {
            if (_tls.TryGetValue(id, out TlsCredentials? credentials))
            {
                return credentials;
            }

            string? nearest = NearestName.Find(id, _tls.Keys);
            throw new BlockException(BlockErrorKind.InvalidArgument, $"there are no TLS credentials '{id}'")
            {
                Hint = nearest is null
                    ? $"Give them with --object tls-creds-x509,id={id},endpoint=client,dir=…" : $"Did you mean '{nearest}'?",
            };
        }
    }

    /// <summary>
    /// Keeps the login of a server for other images of this run that lie on it; the store owns the password from here on.
    /// The last one counts.
    /// </summary>
    /// <param name="origin">Protocol, host and port.</param>
    /// <param name="user">Its name.</param>
    /// <param name="password">Its password.</param>
    public void RememberLogin(string origin, string user, Secret password)
    {
        lock (_lock)
        {
            if (_logins.Remove(origin, out (string User, Secret Password) old))
            {
                old.Password.Dispose();
            }

            _logins.Add(origin, (user, password));
        }
    }

    /// <summary>The login that was kept for a server, if it is that of the user (null: of any).</summary>
    public (string User, Secret Password)? FindLogin(string origin, string? user)
    {
        lock (_lock)
        {
            return _logins.TryGetValue(origin, out (string User, Secret Password) login)
                && (user is null || user == login.User) ? login : null;
        }
    }

    /// <summary>
    /// The passphrase for something: the secret of <paramref name="id"/> if one is named, else the default, else a
    /// person's answer, which is asked for once and then remembered.
    /// </summary>
    /// <param name="id">Id that options name ("key-secret"), or null.</param>
    /// <param name="what">What it opens, for the prompt and for messages: the name of the image.</param>
    public Secret Passphrase(string? id, string what)
    {
        if (id is not null)
        {
            return Get(id);
        }

        lock (_lock)
        {
            if (Default is not null)
            {
                return Default;
            }

            if (_asked.TryGetValue(what, out Secret? known))
            {
                return known;
            }

            if (Ask?.Invoke(what) is { } answer)
            {
                _asked.Add(what, answer);
                return answer;
            }

            Unanswered = what;
        }

        throw new BlockException(BlockErrorKind.PermissionDenied, "the image is encrypted and no passphrase is given")
        {
            Hint = "Give it with --passphrase-file FILE, or --object secret,id=ID,file=FILE and key-secret=ID.",
        };
    }

    /// <summary>
    /// The passphrase for an image that is to be made: as <see cref="Passphrase"/>, but a person is asked twice, and the
    /// answer is the default from then on.
    /// </summary>
    public Secret NewPassphrase(string? id, string what)
    {
        if (id is not null || Default is not null || Ask is null)
        {
            return Passphrase(id, what);
        }

        lock (_lock)
        {
            Secret first = Ask($"{what} (new)")
                ?? throw new BlockException(BlockErrorKind.InvalidArgument, "the passphrase is empty");
            using Secret? second = Ask($"{what} (once more)");
            if (second is null || !CryptographicOperations.FixedTimeEquals(first.Span, second.Span))
            {
                first.Dispose();
                throw new BlockException(BlockErrorKind.InvalidArgument, "the two passphrases differ");
            }

            Default = first;
            return first;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach (Secret secret in _byId.Values.Concat(_asked.Values).Concat(_logins.Values.Select(login => login.Password)))
            {
                secret.Dispose();
            }

            _byId.Clear();
            _asked.Clear();
            _logins.Clear();
            Default?.Dispose();
            Default = null;
        }
    }
}
