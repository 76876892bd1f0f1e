using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Does the steps of a log, from the first or from where an earlier run was cut off. Each step names what must be
/// where before it, and no step makes that true again for an earlier one (see <see cref="ChangePlanner"/>); so the
/// first step whose beginning is there is the one to go on with.
/// What somebody else did to the folder meanwhile is never overwritten: names that are taken are left alone, and ours
/// gets another one.
/// </summary>
/// <param name="changes">The folder.</param>
/// <param name="log">What to do.</param>
/// <param name="notes">Takes what the user should know.</param>
internal sealed class ChangeRunner(HostChanges changes, ChangeLog log, ICollection<string> notes)
{
    private readonly HashSet<HostPath> _touched = [];
    private readonly List<(HostPath From, HostPath To)> _redirects = [];
    private HostPath _staging = HostPath.Root;
    private bool _isResumed;

    /// <summary>Places that were taken, and what was taken instead.</summary>
    public IReadOnlyList<(HostPath From, HostPath To)> Redirects => _redirects;

    private HostTree Tree => changes.Tree;

    /// <summary>Id of what is done.</summary>
    public string ApplyId => log.Id;

    /// <summary>Does everything that is still to be done; <see cref="CleanUp"/> has to follow.</summary>
    /// <param name="isResumed">An earlier run may have done a part.</param>
    /// <exception cref="BlockException">A step failed; the rest can be done later.</exception>
    public void Run(bool isResumed)
    {
        _staging = StagingFolder.Existing(changes, log.Id).Path;
        _isResumed = isResumed;
        Tree.Forget();
        for (int i = isResumed ? FindNext() : 0; i < log.Steps.Count; i++)
        {
            Do(log.Steps[i]);
            Tree.Forget();
        }

        foreach (HostPath folder in _touched)
        {
            if (Tree.TryOpenFolder(folder, out _) is not null)
            {
                changes.SyncFolder(folder);
            }
        }
    }

    /// <summary>
    /// Removes what is left over, the log at last. Where <see cref="Redirects"/> say something, whoever keeps it must
    /// have done so durably before: only with the log can they be found again.
    /// </summary>
    public void CleanUp()
    {
        foreach (ChangeGarbage garbage in log.Garbage)
        {
            Remove(garbage);
        }

        StagingFolder.Existing(changes, log.Id).Remove(notes);
        changes.SyncFolder(HostPath.Root);
    }

    private int FindNext()
    {
        for (int i = 0; i < log.Steps.Count; i++)
        {
            ChangeStep step = log.Steps[i];
            if (step.Kind == StepKind.Move && Tree.Look(step.From) != step.FromIs && FindRedirect(step))
            {
                continue;
            }

            if (Tree.Look(Resolve(step.From)).IsSameObject(step.FromIs)
                && (step.Kind != StepKind.Exchange || Tree.Look(Resolve(step.To)).IsSameObject(step.ToIs)))
            {
                return i;
            }
        }

        return log.Steps.Count;
    }

    private void Do(ChangeStep step)
    {
        HostPath from = Resolve(step.From);
        bool isThere = Tree.Look(from).IsSameObject(step.FromIs);
        switch (step.Kind)
        {
            case StepKind.Move when isThere:
                Move(from, Resolve(step.To), step.To);
                break;
            case StepKind.Exchange when isThere:
                Exchange(step, from, Resolve(step.To));
                break;
            case StepKind.RemoveFolder when isThere:
                RemoveFolder(from, Resolve(step.To));
                break;
            case StepKind.SetFacts when isThere:
                SetFacts(step, from);
                break;
            case StepKind.Move when !_isResumed && !FindRedirect(step) && !IsStaged(from):
                notes.Add($"'{Tree.NameOf(from)}' disappeared while the folder was brought up to date");
                break;
        }
    }

    private bool IsStaged(HostPath path) => path.Parent == _staging;

    private void Move(HostPath from, HostPath to, HostPath planned)
    {
        int result = changes.TryMove(from, to);
        if (result != 0)
        {
            MoveElsewhere(from, to, planned, result);
            return;
        }

        _touched.Add(from.Parent);
        _touched.Add(to.Parent);
    }

    /// <summary>The name is taken, or its folder is gone: another name beside it, or in the folder at the
    /// top.</summary>
    private void MoveElsewhere(HostPath from, HostPath to, HostPath planned, int result)
    {
        HostPath parent = result == -Errno.EEXIST && !IsStaged(to) ? to.Parent : HostPath.Root;
        for (int number = 1; number <= ConflictName.MaxNumber; number++)
        {
            HostPath other = parent.Join(ConflictName.Make(IsStaged(to) ? from.Name : to.Name, number));
            int moved = changes.TryMove(from, other);
            if (moved is -Errno.ENOENT or -Errno.ENOTDIR)
            {
                notes.Add($"'{Tree.NameOf(from)}' disappeared while the folder was brought up to date");
                return;
            }

            if (moved == 0)
            {
                _redirects.Add((planned, other));
                _touched.Add(from.Parent);
                _touched.Add(parent);
                notes.Add(
                    result == -Errno.EEXIST
                        ? $"'{Tree.NameOf(to)}' was made by somebody else meanwhile; the disk's is '{other}'"
                        : $"the folder of '{Tree.NameOf(to)}' is gone; the disk's is '{other}'");
                return;
            }
        }

        throw HostErrors.Make(Errno.EEXIST, "no name is free", Tree.NameOf(to));
    }

    private void Exchange(ChangeStep step, HostPath from, HostPath to)
    {
        if (Tree.Look(to).IsSameObject(step.ToIs))
        {
            if (changes.TryExchange(from, to) == 0)
            {
                _touched.Add(from.Parent);
                _touched.Add(to.Parent);
                return;
            }
        }

        // What was there is gone, or another.
        Move(from, to, step.To);
    }

    private void RemoveFolder(HostPath path, HostPath place)
    {
        int result = changes.TryRemoveFolder(path);
        _touched.Add(path.Parent);
        if (result != -Errno.ENOTEMPTY)
        {
            return;
        }

        if (!IsStaged(path))
        {
            notes.Add(
                $"'{Tree.NameOf(path)}' was removed on the disk, but holds what the disk does not show: it stays");
            return;
        }

        Rescue(path, place, "was removed on the disk, but holds what the disk does not show: it is now");
    }

    private void SetFacts(ChangeStep step, HostPath path)
    {
        using SafeFileHandle? file = Tree.TryOpen(path, SysOpen.O_RDONLY, out int errno);
        if (file is null)
        {
            NoteFacts(path, errno is Errno.EACCES or Errno.EPERM or Errno.EROFS
                ? null : HostErrors.Make(errno, "cannot set mode and time", Tree.NameOf(path)));
            return;
        }

        try
        {
            SetFacts(step, path, file);
        }
        catch (BlockException e) when (e.Errno is Errno.EPERM or Errno.EACCES or Errno.EROFS)
        {
            NoteFacts(path, null);
        }
    }

    /// <summary>Who may not set them never may, and nothing is lost: the rest must not wait for it for ever.</summary>
    private void NoteFacts(HostPath path, BlockException? failure)
    {
        if (failure is not null)
        {
            throw failure;
        }

        notes.Add($"'{Tree.NameOf(path)}' may not be changed: its mode and time stay as they are");
    }

    private void SetFacts(ChangeStep step, HostPath path, SafeFileHandle file)
    {
        if (Stat.TryGet(file, out StatInfo info) != 0 || !HostIdentity.Of(info).IsSameObject(step.FromIs))
        {
            return;
        }

        if (step.Mode >= 0 && (info.Mode & 0xfff) != step.Mode)
        {
            changes.SetMode(file, path, (uint)step.Mode);
        }

        if (step.SetsTime && info.ModifiedNs != step.ModifiedNs)
        {
            changes.SetModified(file, path, step.ModifiedNs);
        }
    }

    private void Remove(ChangeGarbage garbage)
    {
        HostPath path = Resolve(garbage.Path);
        HostIdentity what = Tree.Look(path);
        if (what == garbage.Is)
        {
            changes.RemoveFile(path);
        }
        else if (what.Exists)
        {
            Rescue(path, Resolve(garbage.Place), "was changed by somebody else meanwhile; that version is now");
        }
    }

    private void Rescue(HostPath path, HostPath place, string what)
    {
        HostPath parent = Tree.TryOpenFolder(place.Parent, out _) is null ? HostPath.Root : place.Parent;
        for (int number = 1; number <= ConflictName.MaxNumber; number++)
        {
            HostPath other = parent.Join(ConflictName.Make(place.Name, number));
            if (changes.TryMove(path, other) == 0)
            {
                notes.Add($"'{Tree.NameOf(place)}' {what} '{other}'");
                return;
            }
        }

        throw HostErrors.Make(Errno.EEXIST, "no name is free", Tree.NameOf(place));
    }

    /// <summary>Looks whether an earlier run had to give something another name than planned.</summary>
    private bool FindRedirect(ChangeStep step)
    {
        HostPath to = Resolve(step.To);
        if (Tree.Look(to).IsSameObject(step.FromIs) || _redirects.Any(known => known.From == step.To))
        {
            return true;
        }

        // Beside the name that was taken, or at the top, where its folder was gone: as MoveElsewhere names it.
        HostPath name = IsStaged(to) ? step.From.Name : to.Name;
        return FindRedirect(step, IsStaged(to) ? HostPath.Root : to.Parent, name)
            || (to.Parent.Raw.Length > 0 && FindRedirect(step, HostPath.Root, name));
    }

    private bool FindRedirect(ChangeStep step, HostPath parent, HostPath name)
    {
        for (int number = 1; number <= ConflictName.MaxNumber; number++)
        {
            HostPath other = parent.Join(ConflictName.Make(name, number));
            HostIdentity what = Tree.Look(other);
            if (what.IsSameObject(step.FromIs))
            {
                _redirects.Add((step.To, other));
                return true;
            }

            if (!Tree.Exists(other))
            {
                return false;
            }
        }

        return false;
    }

    private HostPath Resolve(HostPath path)
    {
        foreach ((HostPath from, HostPath to) in _redirects)
        {
            if (path == from)
            {
                path = to;
            }
            else if (path.Raw.StartsWith(from.Raw + "/", StringComparison.Ordinal))
            {
                path = new HostPath(to.Raw + path.Raw[from.Raw.Length..]);
            }
        }

        return path;
    }
}
