#!/usr/bin/env python3
"""An independent reading of LUKS1, and of any payload of which the key is known: python's hashlib and libgcrypt.

usage: luks1.py read|write IMAGE KEY PLAIN
  KEY is "passphrase:FILE" (IMAGE has a LUKS1 header), or "HEX:CIPHER:OFFSET" (a volume key, a name such as
  serpent-cbc-plain64, and where the payload begins; CIPHER may have colons of its own).
  read decrypts the payload into PLAIN; write encrypts PLAIN into the payload.
Written from the LUKS1 On-Disk Format Specification 1.2.3 and from dm-crypt's documentation of modes and vectors.
"""
import ctypes
import hashlib
import struct
import sys

gcrypt = ctypes.CDLL("libgcrypt.so.20")
gcrypt.gcry_check_version(None)
gcrypt.gcry_control(38, 0)  # GCRYCTL_INITIALIZATION_FINISHED

CIPHERS = {
    ("aes", 16): 7, ("aes", 24): 8, ("aes", 32): 9,
    ("serpent", 16): 304, ("serpent", 24): 305, ("serpent", 32): 306,
    ("twofish", 16): 303, ("twofish", 32): 10,
    ("cast5", 16): 3, ("des3_ede", 24): 2,
}
BLOCKS = {"cast5": 8, "des3_ede": 8}
ECB, CBC, CTR, XTS = 1, 3, 6, 13


class Cipher:
    """One algorithm in one mode of libgcrypt."""

    def __init__(self, name, mode, key):
        size = len(key) // 2 if mode == XTS else len(key)
        if (name, size) not in CIPHERS:
            sys.exit(3)  # The library has no such key size.
        self.handle, self.mode = ctypes.c_void_p(), mode
        check(gcrypt.gcry_cipher_open(ctypes.byref(self.handle), CIPHERS[name, size], mode, 0))
        check(gcrypt.gcry_cipher_setkey(self.handle, key, len(key)))

    def run(self, vector, data, encrypt):
        check(gcrypt.gcry_cipher_ctl(self.handle, 4, None, 0))  # GCRYCTL_RESET
        if self.mode == CTR:
            check(gcrypt.gcry_cipher_setctr(self.handle, vector, len(vector)))
        elif self.mode != ECB:
            check(gcrypt.gcry_cipher_setiv(self.handle, vector, len(vector)))
        out = ctypes.create_string_buffer(len(data))
        work = gcrypt.gcry_cipher_encrypt if encrypt else gcrypt.gcry_cipher_decrypt
        check(work(self.handle, out, len(data), bytes(data), len(data)))
        return out.raw


def check(code):
    if code:
        gcrypt.gcry_strerror.restype = ctypes.c_char_p
        sys.exit("libgcrypt: " + gcrypt.gcry_strerror(code).decode())


def sectors(spec, key, data, encrypt):
    """Whole sectors, numbered from 0."""
    name, mode, *rest = spec.split("-", 2)
    vectors = rest[0] if rest else ""
    block = BLOCKS.get(name, 16)
    cipher = Cipher(name, {"ecb": ECB, "cbc": CBC, "ctr": CTR, "xts": XTS}[mode], key)
    essiv = None
    if vectors.startswith("essiv:"):
        essiv = Cipher(name, ECB, hashlib.new(vectors[6:], key).digest())
    result = bytearray()
    for number in range(len(data) // 512):
        vector = struct.pack("<Q", number & 0xffffffff if vectors == "plain" else number).ljust(block, b"\0")
        if essiv:
            vector = essiv.run(b"", vector, True)
        result += cipher.run(vector, data[number * 512:number * 512 + 512], encrypt)
    return bytes(result)


def diffuse(data, name):
    size = hashlib.new(name).digest_size
    parts = [data[i:i + size] for i in range(0, len(data), size)]
    return b"".join(hashlib.new(name, struct.pack(">I", i) + p).digest()[:len(p)] for i, p in enumerate(parts))


def unlock(image, passphrase):
    """Volume key, cipher and place of the payload."""
    text = [image[at:at + 32].split(b"\0")[0].decode() for at in (8, 40, 72)]
    spec, name = f"{text[0]}-{text[1]}", text[2]
    payload, size, digest, salt, rounds = struct.unpack_from(">II20s32sI", image, 104)
    for slot in range(8):
        active, count, slot_salt, area, stripes = struct.unpack_from(">II32sII", image, 208 + 48 * slot)
        if active != 0x00AC71F3:
            continue
        area_key = hashlib.pbkdf2_hmac(name, passphrase, slot_salt, count, size)
        length = -(-size * stripes // 512) * 512
        material = sectors(spec, area_key, image[area * 512:area * 512 + length], False)
        key = bytes(size)
        for i in range(stripes - 1):
            stripe = material[i * size:(i + 1) * size]
            key = diffuse(bytes(a ^ b for a, b in zip(key, stripe)), name)
        key = bytes(a ^ b for a, b in zip(key, material[(stripes - 1) * size:stripes * size]))
        if hashlib.pbkdf2_hmac(name, key, salt, rounds, 20) == digest:
            return key, spec, payload * 512
    sys.exit("no slot opens")


def main():
    action, path, how, plain = sys.argv[1:]
    with open(path, "rb") as file:
        image = file.read()
    if how.startswith("passphrase:"):
        with open(how[11:], "rb") as file:
            key, spec, start = unlock(image, file.read())
    else:
        head, _, start = how.rpartition(":")
        key, _, spec = head.partition(":")
        key, start = bytes.fromhex(key), int(start)
    if action == "read":
        with open(plain, "wb") as file:
            file.write(sectors(spec, key, image[start:], False))
    else:
        with open(plain, "rb") as file, open(path, "r+b") as out:
            out.seek(start)
            out.write(sectors(spec, key, file.read(), True))


main()
