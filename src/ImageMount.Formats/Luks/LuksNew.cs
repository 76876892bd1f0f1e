using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>The pieces of a new header, not written yet.</summary>
/// <param name="MaterialOffset">Where the key material of slot 0 goes.</param>
/// <param name="Material">Key material.</param>
/// <param name="Header">The header (LUKS2: its first copy), which goes to 0, last.</param>
/// <param name="SecondHeader">The second copy, which goes behind the first; null for LUKS1.</param>
/// <param name="PayloadOffset">Where the data begins.</param>
internal sealed record LuksNew(
    long MaterialOffset, byte[] Material, byte[] Header, byte[]? SecondHeader, long PayloadOffset)
{
    private const long AlignmentOfFile = 1 << 20;
    private const int SlotAlignment = 4096;

    /// <summary>Makes a LUKS1 header with a new key.</summary>
    /// <param name="o">What it is to be like.</param>
    /// <param name="passphrase">For slot 0.</param>
    /// <param name="compact">Begin the payload right behind the key material (inside qcow2), not at a MiB.</param>
    public static LuksNew MakeV1(LuksCreateOptions o, Secret passphrase, bool compact)
    {
        (CipherSpec cipher, int keySize, Hash hash) = Choose(o);
        using Secret key = NewKey(keySize);
        int slotSize = (keySize * LuksLayout.Stripes + SlotAlignment - 1) & -SlotAlignment;
        long payload = LuksLayout.FirstMaterialV1 + LuksLayout.SlotsV1 * (long)slotSize;
        payload = compact ? payload : (payload + AlignmentOfFile - 1) & -AlignmentOfFile;
        var slot = new LuksKeySlot
        {
            Id = 0,
            IsActive = true,
            KeySize = keySize,
            Stripes = LuksLayout.Stripes,
            SplitHash = hash.Name,
            Kdf = new LuksKdfWish(LuksPbkdf.Pbkdf2, hash.Name, o.IterTimeMs, o.Iterations, null).Choose(keySize),
            AreaOffset = LuksLayout.FirstMaterialV1,
            AreaSize = slotSize,
            AreaCipher = cipher,
            AreaKeySize = keySize,
        };
        LuksDigest digest = LuksSlotMaker.MakeDigest(
            key.Span, hash, DigestIterations(o, hash, LuksLayout.DigestSizeV1), LuksLayout.DigestSizeV1, [0]);
        var header = new byte[2 * LuksLayout.Sector];
        var start = new Luks1Start
        {
            Version = 1,
            PayloadOffset = (uint)(payload / LuksLayout.Sector),
            KeyBytes = (uint)keySize,
            DigestIterations = (uint)digest.Iterations,
        };
        LuksLayout.Magic.CopyTo(start.Magic);
        Put(cipher.Cipher, start.CipherName);

        // In ecb there are no vectors: cryptsetup opens no image that names some, and QEMU none that does not. Inside
        // qcow2 QEMU reads it.
        Put(cipher.Mode == Crypto.CipherMode.Ecb && compact ? "ecb-plain64" : cipher.ModeAndIv, start.CipherMode);
        Put(hash.Name, start.HashSpec);
        Put(Guid.NewGuid().ToString(), start.Uuid);
        digest.Value.CopyTo(start.Digest);
        digest.Salt.CopyTo(start.DigestSalt);
        MemoryMarshal.Write(header, in start);
        for (int i = 0; i < LuksLayout.SlotsV1; i++)
        {
            var entry = new Luks1Slot
            {
                Active = i == 0 ? LuksLayout.SlotEnabled : LuksLayout.SlotDisabled,
                Iterations = i == 0 ? (uint)slot.Kdf.Iterations : 0,
                MaterialOffset = (uint)((LuksLayout.FirstMaterialV1 + (long)i * slotSize) / LuksLayout.Sector),
                Stripes = LuksLayout.Stripes,
            };
            if (i == 0)
            {
                slot.Kdf.Salt.CopyTo(entry.Salt);
            }

            MemoryMarshal.Write(header.AsSpan(LuksLayout.SlotsField + i * Marshal.SizeOf<Luks1Slot>()), in entry);
        }

        return new LuksNew(
            slot.AreaOffset, LuksSlotMaker.MakeMaterial(slot, key.Span, passphrase), header, null, payload);
    }

    /// <summary>Makes a LUKS2 header with a new key.</summary>
    public static LuksNew MakeV2(LuksCreateOptions o, Secret passphrase)
    {
        (CipherSpec cipher, int keySize, Hash hash) = Choose(o);
        using Secret key = NewKey(keySize);
        LuksKeySlot slot = Luks2Writer.NewSlot(
            0, keySize, hash.Name, 2L * LuksLayout.MinHeaderSizeV2,
            new LuksKdfWish(o.Pbkdf ?? LuksPbkdf.Argon2id, hash.Name, o.IterTimeMs, o.Iterations, o.PbkdfMemoryKiB));
        LuksDigest digest = LuksSlotMaker.MakeDigest(
            key.Span, hash, DigestIterations(o, hash, hash.Size), hash.Size, [0]);
        byte[] json = Luks2Writer.NewJson(slot, digest, cipher, o.SectorSize);
        var binary = new Luks2Start { Version = 2, HeaderSize = LuksLayout.MinHeaderSizeV2, SequenceId = 1 };
        Put(o.Label ?? "", binary.Label);
        Put("sha256", binary.ChecksumAlgorithm);
        Put(Guid.NewGuid().ToString(), binary.Uuid);
        return new LuksNew(
            slot.AreaOffset, LuksSlotMaker.MakeMaterial(slot, key.Span, passphrase),
            Luks2Writer.MakeCopy(binary, json, isSecond: false), Luks2Writer.MakeCopy(binary, json, isSecond: true),
            Luks2Writer.PayloadOffset);
    }

    /// <summary>Writes everything, the header last.</summary>
    public async ValueTask WriteAsync(LuksArea area, CancellationToken cancellationToken)
    {
        await area.WriteAsync(MaterialOffset, Material, cancellationToken).ConfigureAwait(false);
        if (SecondHeader is not null)
        {
            await area.WriteAsync(SecondHeader.Length, SecondHeader, cancellationToken).ConfigureAwait(false);
        }

        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
        await area.WriteAsync(0, Header, cancellationToken).ConfigureAwait(false);
        await area.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Checks options against each other, and turns them into what headers say.</summary>
    private static (CipherSpec Cipher, int KeySize, Hash Hash) Choose(LuksCreateOptions o)
    {
        (CipherSpec cipher, int keySize) = LuksCipherNames.Make(o.Cipher, o.Mode, o.Iv, o.IvHash);
        if (cipher.WhyNot(keySize) is { } reason)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, reason);
        }

        Require(
            o.Version == 2 || o is { Pbkdf: null or LuksPbkdf.Pbkdf2, PbkdfMemoryKiB: null, SectorSize: 512, Label: null },
            "pbkdf, pbkdf-memory, sector-size and label need version=2");
        Require(int.IsPow2(o.SectorSize), "sector-size is 512, 1024, 2048 or 4096");
        Require(Encoding.UTF8.GetByteCount(o.Label ?? "") < 48, "label has at most 47 bytes");
        bool isArgon = o.Version == 2 && o.Pbkdf != LuksPbkdf.Pbkdf2;
        Require(isArgon || o.PbkdfMemoryKiB is null, "pbkdf-memory is for argon2");
        Require(!isArgon || o.Iterations is null or <= 1000, "argon2 makes at most 1000 passes");
        return (cipher, keySize, Crypto.Hash.Get(o.Hash.ToString().ToLowerInvariant()));
    }

    private static int DigestIterations(LuksCreateOptions o, Hash hash, int size) => o.Iterations is null
        ? KdfBenchmark.Digest(hash, size, o.IterTimeMs)
        : KdfBenchmark.MinIterations;

    private static Secret NewKey(int size)
    {
        Span<byte> key = stackalloc byte[size];
        RandomNumberGenerator.Fill(key);
        var secret = new Secret(key);
        CryptographicOperations.ZeroMemory(key);
        return secret;
    }

    private static void Put(string text, Span<byte> field) => Encoding.UTF8.GetBytes(text, field);

    private static void Require(bool condition, string rule)
    {
        if (!condition)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, rule);
        }
    }
}
