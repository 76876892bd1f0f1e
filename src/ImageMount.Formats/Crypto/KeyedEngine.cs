using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Engines;
using Org.BouncyCastle.Crypto.Parameters;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// An engine of BouncyCastle with its key schedule, which the library itself has no way to wipe: initialising an engine
/// again makes new arrays and drops the old ones as they are. So the fields are reached by name, which a test compares
/// with what the library has.
/// </summary>
/// <remarks>
/// The library's key set-up also makes copies and intermediate arrays that it drops at once; those cannot be reached
/// (docs/secrets.md says so). To have few of them, a key is set up once for each direction, and every worker gets a
/// shallow copy of the engine, which shares the schedule and has registers of its own.
/// </remarks>
internal sealed class KeyedEngine : IDisposable
{
    private readonly IBlockCipher _engine;

    public KeyedEngine(IBlockCipher engine, ReadOnlySpan<byte> key, bool encrypt)
    {
        _engine = engine;
        byte[] copy = GC.AllocateUninitializedArray<byte>(key.Length, pinned: true);
        key.CopyTo(copy);
        var parameter = new KeyParameter(copy);
        engine.Init(encrypt, parameter);
        CryptographicOperations.ZeroMemory(copy);
        CryptographicOperations.ZeroMemory(KeyOf(parameter));
        WipeRegisters(engine); // Serpent's went through the schedule, and still hold its last words.
    }

    /// <summary>An engine for one worker. Its schedule is this one's: it ends when this is disposed.</summary>
    public IBlockCipher Share() => (IBlockCipher)ShallowCopy(_engine);

    /// <summary>Overwrites what an engine keeps beside its schedule: of the key set-up, and of the blocks after it.</summary>
    public static void WipeRegisters(IBlockCipher engine)
    {
        if (engine is SerpentEngineBase serpent)
        {
            Register0(serpent) = Register1(serpent) = Register2(serpent) = Register3(serpent) = 0;
        }
    }

    /// <summary>Overwrites the schedule.</summary>
    public void Dispose()
    {
        switch (_engine)
        {
            case SerpentEngineBase serpent:
                Wipe<int>(Schedule(serpent));
                break;
            case TwofishEngine twofish:
                Wipe<int>(SubKeys(twofish));
                Wipe<int>(SBoxes(twofish));
                Wipe<byte>(Key(twofish));
                break;
            case Cast5Engine cast5:
                Wipe<int>(Rotations(cast5));
                Wipe<uint>(Masks(cast5));
                Wipe<byte>(Key(cast5));
                break;
            case DesEdeEngine tripleDes:
                Wipe<int>(Schedule1(tripleDes));
                Wipe<int>(Schedule2(tripleDes));
                Wipe<int>(Schedule3(tripleDes));
                break;
            default:
                throw new InvalidOperationException($"nothing is known of {_engine.AlgorithmName}");
        }
    }

    private static void Wipe<T>(Span<T> array)
        where T : struct => CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(array));

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "MemberwiseClone")]
    private static extern object ShallowCopy(object engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "key")]
    private static extern ref byte[] KeyOf(KeyParameter parameter);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "wKey")]
    private static extern ref int[] Schedule(SerpentEngineBase engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "X0")]
    private static extern ref int Register0(SerpentEngineBase engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "X1")]
    private static extern ref int Register1(SerpentEngineBase engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "X2")]
    private static extern ref int Register2(SerpentEngineBase engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "X3")]
    private static extern ref int Register3(SerpentEngineBase engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "gSubKeys")]
    private static extern ref int[] SubKeys(TwofishEngine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "gSBox")]
    private static extern ref int[] SBoxes(TwofishEngine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "workingKey")]
    private static extern ref byte[] Key(TwofishEngine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_Kr")]
    private static extern ref int[] Rotations(Cast5Engine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_Km")]
    private static extern ref uint[] Masks(Cast5Engine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_workingKey")]
    private static extern ref byte[] Key(Cast5Engine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "workingKey1")]
    private static extern ref int[] Schedule1(DesEdeEngine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "workingKey2")]
    private static extern ref int[] Schedule2(DesEdeEngine engine);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "workingKey3")]
    private static extern ref int[] Schedule3(DesEdeEngine engine);
}
