using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static ImageMount.Interop.IscsiLibrary;

namespace ImageMount.Interop;

/// <summary>Where the data of a SCSI command goes.</summary>
public enum ScsiDirection
{
    /// <summary>There is none.</summary>
    None,

    /// <summary>From the target.</summary>
    In,

    /// <summary>To the target.</summary>
    Out,
}

/// <summary>How a SCSI command ended.</summary>
/// <param name="Status">SCSI status (0 to 255), or one of the library's own from 0x0f000000 on.</param>
/// <param name="Missing">Bytes that the target says it did not transfer; negative: that there were more.</param>
/// <param name="Sense">Sense data of a check condition as the target sent it, or null.</param>
public readonly record struct IscsiReply(int Status, long Missing, byte[]? Sense)
{
    /// <summary>The command ended with its session.</summary>
    public const int Cancelled = 0x0f000000;

    /// <summary>The target broke the protocol.</summary>
    public const int Error = 0x0f000001;
}

/// <summary>
/// One SCSI command of libiscsi, which may be used again and again. Its memory is used by the library from
/// <see cref="IscsiContext.TrySend"/> until <see cref="OnReply"/>, on the thread of the context and no other.
/// </summary>
public abstract unsafe class IscsiCommand : IDisposable
{
    private const int MaxSense = 252;

    private GCHandle _self;
    private ScsiIovec* _iovec;
    private MemoryHandle _pin;
    private ScsiDirection _direction;
    private IscsiContext? _context;
    private nint _task;
    private byte* _scratch;

    /// <summary>A command that is not used yet.</summary>
    protected IscsiCommand()
    {
        _self = GCHandle.Alloc(this);

        // SAFETY: freed in Dispose, or by the context that it was left to.
        _iovec = (ScsiIovec*)NativeMemory.AllocZeroed((nuint)sizeof(ScsiIovec));
    }

    /// <summary>Gives up what is not the garbage collector's. Not while it is on its way.</summary>
    public void Dispose()
    {
        if (_self.IsAllocated)
        {
            _self.Free();
            NativeMemory.Free(_iovec);
            _iovec = null;
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>
    /// The library is not to touch the memory of a read any more, although the answer is still to come: what comes goes
    /// nowhere. On the context's thread.
    /// </summary>
    public void Detach()
    {
        if (_task == 0 || _direction != ScsiDirection.In || _scratch is not null)
        {
            return;
        }

        // SAFETY: the library looks at the vector anew for each piece that it receives, on this thread; the new memory is
        // as long as the old, and is freed when the command has ended.
        _scratch = (byte*)NativeMemory.Alloc(_iovec->Length);
        _iovec->Base = _scratch;
        _pin.Dispose();
        _pin = default;
    }

    /// <summary>The command has ended, and nothing touches its memory any more. On the context's thread.</summary>
    protected abstract void OnReply(in IscsiReply reply);

    /// <summary>Hands it to the library; false: it does not take it, and nothing has happened.</summary>
    internal bool Submit(
        IscsiContext context, nint handle, int lun, ReadOnlySpan<byte> cdb, ScsiDirection direction,
        ReadOnlyMemory<byte> memory)
    {
        // SAFETY: the library copies the CDB. The memory is pinned and the vector lives until the reply; the handle of
        // this object as long as the object.
        int transfer = direction == ScsiDirection.In ? SCSI_XFER_READ
            : direction == ScsiDirection.Out ? SCSI_XFER_WRITE : SCSI_XFER_NONE;
        fixed (byte* bytes = cdb)
        {
            _task = Native.scsi_create_task(cdb.Length, bytes, transfer, memory.Length);
        }

        if (_task == 0)
        {
            return false;
        }

        _context = context;
        _direction = direction;
        if (direction != ScsiDirection.None)
        {
            _pin = memory.Pin();
            _iovec->Base = _pin.Pointer;
            _iovec->Length = (nuint)memory.Length;
            if (direction == ScsiDirection.In)
            {
                Native.scsi_task_set_iov_in(_task, _iovec, 1);
            }
            else
            {
                Native.scsi_task_set_iov_out(_task, _iovec, 1);
            }
        }

        if (Native.iscsi_scsi_command_async(handle, lun, _task, &Replied, 0, GCHandle.ToIntPtr(_self)) == 0)
        {
            return true;
        }

        Native.scsi_free_scsi_task(_task);
        End();
        return false;
    }

    /// <summary>Forgets a command whose context is no more and did not say how it ended.</summary>
    internal void Drop()
    {
        if (_task != 0)
        {
            Native.scsi_free_scsi_task(_task);
            End();
        }
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Replied(nint context, int status, nint task, nint pointer)
    {
        // SAFETY: the pointer is the handle that Submit gave, which lives as long as the command.
        var command = (IscsiCommand)GCHandle.FromIntPtr(pointer).Target!;
        command.Take(status);
    }

    private void Take(int status)
    {
        // SAFETY: the task is alive until it is freed below; its data is as long as it says.
        var task = (ScsiTask*)_task;
        long missing = task->ResidualStatus switch
        {
            1 => (long)task->Residual,
            2 => -(long)task->Residual,
            _ => 0,
        };
        byte[]? sense = status == 2 && task->Data is not null && task->DataLength > 0
            ? new ReadOnlySpan<byte>(task->Data, Math.Min(task->DataLength, MaxSense)).ToArray()
            : null;
        if (_direction == ScsiDirection.Out && _context!.MayStillSend())
        {
            // The target has answered before it had all the data: what the library still sends of it comes from elsewhere.
            _context.Leave(_task, _iovec);
            _iovec = (ScsiIovec*)NativeMemory.AllocZeroed((nuint)sizeof(ScsiIovec));
        }
        else
        {
            Native.scsi_free_scsi_task(_task);
        }

        End();
        OnReply(new IscsiReply(status, missing, sense));
    }

    private void End()
    {
        _task = 0;
        _context = null;
        _pin.Dispose();
        _pin = default;
        NativeMemory.Free(_scratch);
        _scratch = null;
    }
}
