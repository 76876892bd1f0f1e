using ImageMount.Core.Secrets;

namespace ImageMount.Core.Info;

/// <summary>Implemented by devices whose image can be changed in its options after it was made: key slots, for one.</summary>
public interface IAmendable
{
    /// <summary>The record that declares the options, named as <c>qemu-img amend -o</c> names them.</summary>
    Type AmendOptionsType { get; }

    /// <summary>
    /// Changes the image, durably when the task completes; a crash on the way leaves it as before or as wanted. Failures
    /// are BlockException.
    /// </summary>
    /// <param name="options">An instance of <see cref="AmendOptionsType"/>.</param>
    /// <param name="secrets">Passphrases that options name.</param>
    /// <param name="force">Do also what may make the image useless, such as removing its last key.</param>
    /// <param name="cancellationToken">Stops it before it has begun to write.</param>
    ValueTask AmendAsync(object options, SecretStore secrets, bool force, CancellationToken cancellationToken);
}
