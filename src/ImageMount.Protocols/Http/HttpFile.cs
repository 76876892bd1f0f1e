using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>What is known of the file, over all connections: which state of it is shown, and where it was found last.</summary>
internal sealed class HttpFile(HttpPlace origin)
{
    private volatile HttpPlace _target = origin;
    private volatile BlockException? _change;

    /// <summary>What the user named. The only one that gets cookies.</summary>
    public HttpPlace Origin { get; } = origin;

    /// <summary>Where redirections led.</summary>
    public HttpPlace Target
    {
        get => _target;
        set => _target = value;
    }

    /// <summary>The state that was opened; null before.</summary>
    public HttpFileVersion? Version { get; private set; }

    /// <summary>False once a server has answered "changed" (200) to a condition though nothing had.</summary>
    public volatile bool UsesIfRange = true;

    /// <summary>How soon the server answers.</summary>
    public AnswerTimes Times { get; } = new();

    /// <summary>True once another state was seen: nothing is read any more.</summary>
    public bool HasChanged => _change is not null;

    /// <summary>Takes the first answer as the state to show; a later one of another state is remembered as a change.</summary>
    public void Accept(HttpFileVersion version)
    {
        if (Version is null)
        {
            Version = version;
        }
        else if (Version.DifferenceTo(version.Length, version.Tag, version.Modified) is { } why)
        {
            _change ??= Change(why);
        }
    }

    /// <summary>Remembers a change, and gives what to throw.</summary>
    public BlockException Changed(string why)
    {
        _change ??= Change(why);
        return Change(why);
    }

    /// <summary>Throws when the file is another by now.</summary>
    public void ThrowIfChanged()
    {
        if (_change is { } change)
        {
            throw new BlockException(change.Kind, change.Message) { Hint = change.Hint };
        }
    }

    private BlockException Change(string why) => new(
        BlockErrorKind.IoError, $"{Origin.Shown}: the file has changed on the server since it was opened: {why}")
    {
        Hint = "What was read before belongs to the old one. Unmount, and open it anew.",
    };
}
