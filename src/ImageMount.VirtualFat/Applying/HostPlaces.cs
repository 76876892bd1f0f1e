using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Where everything is while steps are planned: it notes the steps, and knows what they lead to. The folder itself is
/// only looked at.
/// </summary>
internal sealed class HostPlaces
{
    private readonly HostTree _host;
    private readonly StagingFolder _staging;
    private readonly HostObject _stagingObject;
    private readonly Dictionary<FolderNode, HostObject> _objects = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<FolderNode, HostIdentity> _looked = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<(HostObject Folder, HostPath Name), HostObject> _places = [];
    private readonly HostRights _rights;
    private readonly HashSet<ulong> _touched = [];
    private readonly List<ChangeStep> _steps = [];
    private readonly List<ChangeGarbage> _garbage = [];

    /// <summary>Begins with what there was.</summary>
    public HostPlaces(FolderState before, HostTree host, StagingFolder staging)
    {
        (_host, _staging) = (host, staging);
        _rights = new HostRights(host);
        foreach (FolderNode node in before.Nodes)
        {
            HostObject? parent = node.Parent is null ? null : _objects[node.Parent];
            var found = new HostObject { Node = node, Parent = parent, Name = node.HostName, Is = node.Host };
            _objects.Add(node, found);
            if (parent is not null)
            {
                _places.TryAdd((parent, node.HostName), found);
            }
        }

        Root = _objects[before.Nodes[0]];
        _stagingObject = new HostObject { Parent = Root, Name = staging.Path, Is = HostIdentity.None };
    }

    /// <summary>The folder at the top.</summary>
    public HostObject Root { get; }

    /// <summary>The steps so far.</summary>
    public IReadOnlyList<ChangeStep> Steps => _steps;

    /// <summary>What is to be removed afterwards.</summary>
    public IReadOnlyList<ChangeGarbage> Garbage => _garbage;

    /// <summary>True when names can change places.</summary>
    public bool CanExchange => _staging.CanExchange;

    /// <summary>What there is in the place of something.</summary>
    public HostObject this[FolderNode node] => _objects[node];

    /// <summary>What the host has now where something was before.</summary>
    public HostIdentity Look(FolderNode node)
    {
        if (!_looked.TryGetValue(node, out HostIdentity found))
        {
            found = _host.Look(node.Path);
            _looked.Add(node, found);
        }

        return found;
    }

    /// <summary>Something new in the staging folder.</summary>
    public HostObject Add(StagedFile made)
    {
        var fresh = new HostObject { Parent = _stagingObject, Name = made.Path.Name, Is = made.Is };
        _places.Add((_stagingObject, fresh.Name), fresh);
        return fresh;
    }

    /// <summary>What has a name in a folder, as far as it is known.</summary>
    public HostObject? At(HostObject folder, HostPath name) => _places.GetValueOrDefault((folder, name));

    /// <summary>Notes that there is nothing in the place of something any more.</summary>
    public void Vanished(HostObject what)
    {
        if (_places.GetValueOrDefault((what.Parent!, what.Name)) == what)
        {
            _places.Remove((what.Parent!, what.Name));
        }
    }

    /// <summary>Renames to a name that is free.</summary>
    public void Move(HostObject what, HostObject folder, HostPath name)
    {
        Touch(what, folder);
        HostPath from = what.Path;
        Vanished(what);
        (what.Parent, what.Name) = (folder, name);
        _places[(folder, name)] = what;
        _steps.Add(new ChangeStep { Kind = StepKind.Move, From = from, FromIs = what.Is, To = what.Path });
    }

    /// <summary>Lets two change places.</summary>
    public void Exchange(HostObject what, HostObject other)
    {
        Touch(what, other.Parent!);
        Touch(other, what.Parent!);
        _steps.Add(new ChangeStep
        {
            Kind = StepKind.Exchange,
            From = what.Path,
            FromIs = what.Is,
            To = other.Path,
            ToIs = other.Is,
        });
        other.Home ??= other.Path;
        (what.Parent, other.Parent) = (other.Parent, what.Parent);
        (what.Name, other.Name) = (other.Name, what.Name);
        _places[(what.Parent!, what.Name)] = what;
        _places[(other.Parent!, other.Name)] = other;
    }

    /// <summary>Puts something into the staging folder for the time being.</summary>
    public void Park(HostObject what)
    {
        what.Home ??= what.Path;
        Move(what, _stagingObject, _staging.OldPath().Name);
    }

    /// <summary>Removes a file when all is done.</summary>
    public void Discard(HostObject what)
    {
        if (what.Parent != _stagingObject)
        {
            Park(what);
        }

        _garbage.Add(new ChangeGarbage(what.Path, what.Is, what.Home ?? what.Path));
    }

    /// <summary>Removes a folder, should it be empty by then.</summary>
    public void RemoveFolder(HostObject what)
    {
        Touch(what, what.Parent!);
        _steps.Add(new ChangeStep
        {
            Kind = StepKind.RemoveFolder,
            From = what.Path,
            FromIs = what.Is,
            To = what.Home ?? what.Path,
        });
    }

    /// <summary>Adds a step at the end that is done to something in its place.</summary>
    public void AddStep(HostObject what, ChangeStep step)
    {
        _touched.Add(what.Is.Inode);
        _steps.Add(step with { From = what.Path, FromIs = what.Is });
    }

    /// <summary>
    /// Looks whether all steps may be done: one that may not would be found out in the middle of them, and hold up all
    /// others for ever.
    /// </summary>
    /// <exception cref="BlockException">One may not.</exception>
    public void CheckRights() => _rights.Check();

    /// <summary>What something will be known by when the steps are done: they change the time of change, also of what
    /// has several names.</summary>
    public HostIdentity Afterwards(HostIdentity identity) =>
        _touched.Contains(identity.Inode) ? identity with { ChangedNs = 0 } : identity;

    /// <summary>A name like another that nothing has.</summary>
    public HostPath FreeName(HostObject folder, HostPath name)
    {
        for (int number = 1; number <= ConflictName.MaxNumber; number++)
        {
            HostPath other = ConflictName.Make(name, number);
            if (At(folder, other) is null && !_host.Exists(folder.Path.Join(other)))
            {
                return other;
            }
        }

        throw new BlockException(
            BlockErrorKind.NoSpace, $"no name like '{_host.NameOf(folder.Path.Join(name))}' is free");
    }

    private void Touch(HostObject what, HostObject newFolder)
    {
        _touched.Add(what.Is.Inode);
        _rights.NeedEntries(what.Parent?.Node);
        _rights.NeedEntries(newFolder.Node);
        if (what.Node is { } node)
        {
            _rights.NeedMove(node, changesFolder: what.Parent != newFolder);
        }
    }
}
