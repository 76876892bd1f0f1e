using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// From the difference between disk and folder to an order of steps. New files and folders are made in the staging
/// folder first; what is left are renames.
/// Folders of the disk are gone through from the top down, so that wherever something goes, its folder is in its final
/// place already. A name that is wanted and taken belongs to something that has to go: the two change places (in one
/// step, so that neither name is ever without a file), or that which has to go waits in the staging folder. What is
/// removed on the disk goes last.
/// Everything that has reached its final place stays there; so no step brings back what an earlier one began with.
/// </summary>
internal sealed class ChangePlanner
{
    private readonly VolumeTree _now;
    private readonly TreeMatch _match;
    private readonly HostTree _host;
    private readonly HostPlaces _places;
    private readonly FileStager _stager;
    private readonly TimeZoneInfo _zone;
    private readonly ICollection<string> _notes;
    private readonly HostObject?[] _final;
    private readonly HashSet<FolderNode> _atStake = new(ReferenceEqualityComparer.Instance);
    private readonly List<(HostObject What, ChangeStep Step)> _facts = [];
    private readonly List<HostObject> _replaced = [];

    /// <summary>Puts one together.</summary>
    /// <param name="now">The disk.</param>
    /// <param name="match">How it differs from the folder.</param>
    /// <param name="host">The folder.</param>
    /// <param name="places">Where everything is in it.</param>
    /// <param name="stager">Makes what is new.</param>
    /// <param name="zone">Zone of the disk's times.</param>
    /// <param name="notes">Takes what the user should know.</param>
    public ChangePlanner(
        VolumeTree now, TreeMatch match, HostTree host, HostPlaces places, FileStager stager, TimeZoneInfo zone,
        ICollection<string> notes)
    {
        (_now, _match, _host, _places) = (now, match, host, places);
        (_stager, _zone, _notes) = (stager, zone, notes);
        _final = new HostObject?[now.Nodes.Count];
        _atStake.UnionWith(match.Removed);
        for (int i = 1; i < _final.Length; i++)
        {
            if (match.Of(i) is { IsFolder: false } was && match.IsChanged(i))
            {
                _atStake.Add(was);
            }
        }
    }

    /// <summary>True when the folder has anything to follow.</summary>
    public static bool HasChanges(VolumeTree now, TreeMatch match)
    {
        if (match.Removed.Any())
        {
            return true;
        }

        for (int i = 1; i < now.Nodes.Count; i++)
        {
            VolumeNode node = now.Nodes[i];
            if (match.Of(i) is not { } was || was.Name != node.Name || match.Of(node.Parent) != was.Parent
                || HasOtherFacts(was, node) || (!node.IsDirectory && match.IsChanged(i)))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Makes everything new, and the steps.</summary>
    /// <param name="applyId">Id of this applying.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>What disk and folder have in common when the steps are done.</returns>
    public async ValueTask<FolderState> PlanAsync(string applyId, CancellationToken cancellationToken)
    {
        _final[0] = _places.Root;
        _places.Root.IsSettled = true;
        for (int i = 1; i < _final.Length; i++)
        {
            HostObject folder = _final[_now.Nodes[i].Parent]!; // parents come first
            HostObject what = _now.Nodes[i].IsDirectory
                ? PlaceFolder(i, folder, NameFor(i, folder))
                : await PlaceFileAsync(i, folder, NameFor(i, folder), cancellationToken).ConfigureAwait(false);
            what.IsSettled = true;
            _final[i] = what;
        }

        foreach (HostObject replaced in _replaced)
        {
            _places.Discard(replaced);
        }

        foreach (FolderNode node in _match.Removed)
        {
            Remove(node);
        }

        foreach ((HostObject what, ChangeStep step) in _facts)
        {
            _places.AddStep(what, step);
            if (step.SetsTime && !what.Is.IsFolder)
            {
                what.Is = what.Is with { ModifiedNs = step.ModifiedNs };
            }
        }

        _places.CheckRights();
        return MakeState(applyId);
    }

    private static bool HasOtherFacts(FolderNode was, VolumeNode node) =>
        ((was.Attributes ^ node.Attributes) & FatAttributes.ReadOnly) != 0 || HasOtherTime(was, node);

    private static bool HasOtherTime(FolderNode was, VolumeNode node) =>
        (was.Times.WriteDate, was.Times.WriteTime) != (node.Times.WriteDate, node.Times.WriteTime);

    /// <summary>The name on the host. One that is too long there is shortened, and said: contents matter more.</summary>
    private HostPath NameFor(int index, HostObject folder)
    {
        VolumeNode node = _now.Nodes[index];
        FolderNode? was = _match.Of(index);
        HostPath name = was is not null && was.Name == node.Name ? was.HostName : HostPath.FromText(node.Name);
        if (name.IsName)
        {
            return name;
        }

        if (name.Raw.Length <= HostPath.MaxName)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument,
                $"'{_now.PathOf(index)}' cannot be stored on the host: its name leads away");
        }

        HostPath shorter = _places.FreeName(folder, name);
        _notes.Add(
            $"the name of '{_now.PathOf(index)}' has {name.Raw.Length} bytes on the host, more than {HostPath.MaxName}: "
            + $"there it is '{shorter}'");
        return shorter;
    }

    private HostObject PlaceFolder(int index, HostObject folder, HostPath name)
    {
        VolumeNode node = _now.Nodes[index];
        if (_match.Of(index) is { } was && _places.Look(was) is { IsFolder: true } found)
        {
            HostObject known = _places[was];
            known.Is = found;
            Place(known, folder, name);
            NoteFacts(known, was, node);
            return known;
        }

        HostObject fresh = _places.Add(_stager.MakeFolder(folder.Node?.Path ?? HostPath.Root));
        Place(fresh, folder, name);
        if (node.Times.TryGetWriteNs(_zone, out long modified))
        {
            AddFacts(fresh, -1, modified);
        }

        return fresh;
    }

    private async ValueTask<HostObject> PlaceFileAsync(
        int index, HostObject folder, HostPath name, CancellationToken cancellationToken)
    {
        VolumeNode node = _now.Nodes[index];
        FolderNode? was = _match.Of(index);
        if (was is not null && !_match.IsChanged(index))
        {
            return PlaceUnchanged(was, node, folder, name);
        }

        StagedFile made = await _stager.MakeFileAsync(node, was, folder.Node?.Path ?? HostPath.Root, cancellationToken)
            .ConfigureAwait(false);
        HostObject fresh = _places.Add(made);
        ReportDoubtful(index, made.Doubtful);
        if (was is null || !_places.Look(was).Exists)
        {
            Place(fresh, folder, made.Doubtful.Count > 0 ? _places.FreeName(folder, name) : name);
            return fresh;
        }

        HostObject known = _places[was];
        bool isInPlace = known.Parent == folder && known.Name == name;
        known.Is = _places.Look(was);
        if (!known.Is.IsStill(was.Host) || made.Doubtful.Count > 0)
        {
            // Both are kept. The host's keeps its name, unless the guest gave the file another one anyway.
            known.IsForeign = true;
            HostPath other = isInPlace ? _places.FreeName(folder, name) : name;
            Place(fresh, folder, other);
            _notes.Add(
                $"'{_host.NameOf(was.Path)}' was changed by somebody else since it was planned, and on the disk too: "
                + $"the disk's version is '{fresh.Path}'");
            return fresh;
        }

        if (isInPlace && _places.CanExchange)
        {
            _places.Exchange(fresh, known);
            _places.Discard(known);
            return fresh;
        }

        if (isInPlace)
        {
            _places.Park(known);
        }

        _replaced.Add(known);
        Place(fresh, folder, name);
        return fresh;
    }

    private HostObject PlaceUnchanged(FolderNode was, VolumeNode node, HostObject folder, HostPath name)
    {
        HostObject known = _places[was];
        bool isInPlace = known.Parent == folder && known.Name == name;
        if (isInPlace && !HasOtherFacts(was, node))
        {
            return known;
        }

        HostIdentity found = _places.Look(was);
        if (!found.Exists || found.IsFolder)
        {
            _notes.Add(
                $"'{_host.NameOf(was.Path)}' is not there any more; what was done to it on the disk is left out");
            _places.Vanished(known);
            (known.Parent, known.Name, known.Is) = (folder, name, HostIdentity.None);
            return known;
        }

        known.Is = found;
        if (!found.IsStill(was.Host))
        {
            known.ShownAs = was.Host;
        }

        Place(known, folder, name);
        NoteFacts(known, was, node);
        return known;
    }

    private void ReportDoubtful(int index, IReadOnlyList<FolderNode> doubtful)
    {
        foreach (FolderNode source in doubtful.Take(3))
        {
            _notes.Add(
                $"'{_now.PathOf(index)}' on the disk has parts that were not written there, and "
                + $"'{_host.NameOf(source.Path)}', where they come from, has changed since it was planned: they are "
                + "as the host has them now");
        }
    }

    private void NoteFacts(HostObject known, FolderNode was, VolumeNode node)
    {
        if (!HasOtherFacts(was, node) || _host.TryStat(was.Path, out StatInfo info) != 0)
        {
            return;
        }

        const uint ModeBits = 0xfff;
        uint mode = info.Mode & ModeBits;
        uint wanted = FileStager.ModeFor(mode, was.Attributes, node.Attributes);
        long? modified =
            HasOtherTime(was, node) && known.ShownAs is null && node.Times.TryGetWriteNs(_zone, out long ns) ? ns : null;
        if (wanted != mode || modified is not null)
        {
            AddFacts(known, wanted != mode ? (int)wanted : -1, modified);
        }
    }

    private void AddFacts(HostObject what, int mode, long? modified) => _facts.Add((what, new ChangeStep
    {
        Kind = StepKind.SetFacts,
        From = HostPath.Root,
        FromIs = HostIdentity.None,
        Mode = mode,
        SetsTime = modified is not null,
        ModifiedNs = modified ?? 0,
    }));

    private void Place(HostObject what, HostObject folder, HostPath name)
    {
        if (what.Parent == folder && what.Name == name)
        {
            return;
        }

        HostObject? other = _places.At(folder, name);
        if (other?.Node is { } node)
        {
            HostIdentity found = _places.Look(node);
            if (!found.Exists || found.IsFolder != node.IsFolder)
            {
                // Not there any more, or not ours: the step itself will find out.
                _places.Vanished(other);
                other = null;
            }
            else
            {
                other.Is = found;
            }
        }

        if (other is not null && MustStay(other))
        {
            _notes.Add($"'{_host.NameOf(other.Path)}' was changed by somebody else, and keeps its name");
            name = _places.FreeName(folder, name);
            other = null;
        }

        if (other is not null && _places.CanExchange && !what.IsIn(other) && !other.IsIn(what))
        {
            _places.Exchange(what, other);
            return;
        }

        if (other is not null)
        {
            _places.Park(other);
        }

        _places.Move(what, folder, name);
    }

    /// <summary>
    /// True for what is where it is to be, and for a file that would be replaced or removed although somebody else
    /// changed it.
    /// </summary>
    private bool MustStay(HostObject what)
    {
        if (!what.IsSettled && !what.IsForeign && what.Node is { IsFolder: false } node && _atStake.Contains(node))
        {
            what.IsForeign = !_places.Look(node).IsStill(node.Host);
        }

        return what.IsSettled || what.IsForeign;
    }

    private void Remove(FolderNode node)
    {
        HostObject known = _places[node];
        HostIdentity found = _places.Look(node);
        if (!found.Exists || found.IsFolder != node.IsFolder)
        {
            return;
        }

        known.Is = found;
        if (node.IsFolder)
        {
            _places.RemoveFolder(known);
        }
        else if (!found.IsStill(node.Host))
        {
            _notes.Add(
                $"'{_host.NameOf(node.Path)}' was removed on the disk, but changed by somebody else since it was "
                + "planned: it stays");
        }
        else
        {
            _places.Discard(known);
        }
    }

    private FolderState MakeState(string applyId)
    {
        var nodes = new FolderNode[_final.Length];
        for (int i = 0; i < nodes.Length; i++)
        {
            VolumeNode now = _now.Nodes[i];
            HostObject what = _final[i]!;
            nodes[i] = new FolderNode
            {
                Parent = i == 0 ? null : nodes[now.Parent],
                Name = now.Name,
                HostName = i == 0 ? HostPath.Root : what.Name,
                IsFolder = now.IsDirectory,
                FirstCluster = now.FirstCluster,
                Size = now.Size,
                Runs = now.IsDirectory ? [] : now.Runs,
                Attributes = now.Attributes,
                Times = now.Times,
                Host = what.ShownAs ?? _places.Afterwards(what.Is),
            };
        }

        return new FolderState(nodes, applyId);
    }
}
