using ImageMount.Core.Options;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>Ciphers with the sizes of their keys, as QEMU names them.</summary>
public enum LuksCipher
{
    /// <summary>AES with 128 bits.</summary>
    [OptionValue("aes-128")]
    Aes128,

    /// <summary>AES with 192 bits.</summary>
    [OptionValue("aes-192")]
    Aes192,

    /// <summary>AES with 256 bits.</summary>
    [OptionValue("aes-256")]
    Aes256,

    /// <summary>Triple DES.</summary>
    [OptionValue("3des")]
    TripleDes,

    /// <summary>CAST5 with 128 bits.</summary>
    [OptionValue("cast5-128")]
    Cast5,

    /// <summary>Serpent with 128 bits.</summary>
    [OptionValue("serpent-128")]
    Serpent128,

    /// <summary>Serpent with 192 bits.</summary>
    [OptionValue("serpent-192")]
    Serpent192,

    /// <summary>Serpent with 256 bits.</summary>
    [OptionValue("serpent-256")]
    Serpent256,

    /// <summary>Twofish with 128 bits.</summary>
    [OptionValue("twofish-128")]
    Twofish128,

    /// <summary>Twofish with 192 bits.</summary>
    [OptionValue("twofish-192")]
    Twofish192,

    /// <summary>Twofish with 256 bits.</summary>
    [OptionValue("twofish-256")]
    Twofish256,
}

/// <summary>Hashes, as QEMU names them.</summary>
public enum LuksHash
{
    /// <summary>SHA-1.</summary>
    Sha1,

    /// <summary>SHA-224.</summary>
    Sha224,

    /// <summary>SHA-256.</summary>
    Sha256,

    /// <summary>SHA-384.</summary>
    Sha384,

    /// <summary>SHA-512.</summary>
    Sha512,

    /// <summary>RIPEMD-160.</summary>
    Ripemd160,
}

/// <summary>Kinds of initialisation vectors, as QEMU names them.</summary>
public enum LuksIv
{
    /// <summary>32-bit sector numbers.</summary>
    Plain,

    /// <summary>64-bit sector numbers.</summary>
    Plain64,

    /// <summary>Encrypted sector numbers.</summary>
    Essiv,
}

/// <summary>Between QEMU's names and dm-crypt's.</summary>
internal static class LuksCipherNames
{
    /// <summary>QEMU's name of a cipher ("aes-256"); dm-crypt's own, with the bits, for what QEMU has no name for.</summary>
    public static string Of(CipherSpec spec, int keySize)
    {
        int bits = (spec.Mode == CipherMode.Xts ? keySize / 2 : keySize) * 8;
        return spec.Cipher == "des3_ede" ? "3des" : $"{spec.Cipher}-{bits}";
    }

    /// <summary>How QEMU's options read in dm-crypt's words, and the bytes of the volume key.</summary>
    public static (CipherSpec Spec, int KeySize) Make(LuksCipher cipher, CipherMode mode, LuksIv iv, LuksHash ivHash)
    {
        string[] parts = OptionValues.EnumText(typeof(LuksCipher), cipher.ToString()).Split('-');
        bool isTripleDes = cipher == LuksCipher.TripleDes;
        int size = isTripleDes ? 24 : int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture) / 8;
        var spec = new CipherSpec(
            isTripleDes ? "des3_ede" : parts[0], mode,
            mode == CipherMode.Ecb ? IvKind.Null : iv switch
            {
                LuksIv.Plain => IvKind.Plain,
                LuksIv.Essiv => IvKind.Essiv,
                _ => IvKind.Plain64,
            },
            iv == LuksIv.Essiv && mode != CipherMode.Ecb ? ivHash.ToString().ToLowerInvariant() : null);
        return (spec, mode == CipherMode.Xts ? size * 2 : size);
    }
}
