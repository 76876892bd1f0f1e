namespace ImageMount.Protocols.Gluster;

/// <summary>
/// A thread of its own for calls into the library, in order: it may stick there for long, and then nobody else should.
/// It does not keep the program from ending.
/// </summary>
internal sealed class GlusterThread
{
    private readonly Queue<Action> _queue = new();
    private bool _isStopped;

    /// <summary>Starts it.</summary>
    public GlusterThread(string name)
    {
        var thread = new Thread(Run, 512 << 10) { IsBackground = true, Name = name };
        thread.Start();
    }

    /// <summary>Runs something after all that came before. It must not throw.</summary>
    public void Post(Action work)
    {
        lock (_queue)
        {
            if (_isStopped)
            {
                throw new InvalidOperationException("the thread is stopped");
            }

            _queue.Enqueue(work);
            Monitor.Pulse(_queue);
        }
    }

    /// <summary>The result of a call, when it has run.</summary>
    public Task<T> CallAsync<T>(Func<T> call)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        Post(() =>
        {
            try
            {
                done.SetResult(call());
            }
            catch (Exception e)
            {
                done.SetException(e); // Whoever asked for it gets it.
            }
        });
        return done.Task;
    }

    /// <summary>Ends when everything that came before is done.</summary>
    public void Stop()
    {
        lock (_queue)
        {
            _isStopped = true;
            Monitor.Pulse(_queue);
        }
    }

    private void Run()
    {
        while (true)
        {
            Action? work;
            lock (_queue)
            {
                while (!_queue.TryDequeue(out work))
                {
                    if (_isStopped)
                    {
                        return;
                    }

                    Monitor.Wait(_queue);
                }
            }

            work();
        }
    }
}
