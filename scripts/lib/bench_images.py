"""Images for scripts/bench that qemu-img cannot make, and content that compresses as disks do."""
import os
import plistlib
import random
import struct
import zlib

SECTOR = 512


def write_compressible(path, mib):
    """Half random, half text-like, in pieces of 1 to 64 KiB: about as compressible as a system disk."""
    generator = random.Random(7)
    words = [os.urandom(generator.randint(2, 9)).hex().encode() for _ in range(2000)]
    with open(path, "wb") as file:
        for _ in range(mib):
            piece = bytearray()
            while len(piece) < 1 << 20:
                size = generator.randint(1 << 10, 64 << 10)
                if generator.random() < 0.5:
                    piece += os.urandom(size)
                else:
                    text = b" ".join(generator.choices(words, k=size // 8))
                    piece += text[:size]
            file.write(piece[:1 << 20])


def write_udif(source, path, sectors_per_block=512):
    """A UDIF (dmg) of one block table with zlib blocks, laid out as the format's koly trailer and mish table ask."""
    entries = []
    with open(source, "rb") as raw, open(path, "wb") as out:
        size = os.fstat(raw.fileno()).st_size
        at = 0
        while at < size:
            piece = raw.read(sectors_per_block * SECTOR)
            packed = zlib.compress(piece, 6)
            entries.append((0x80000005, at // SECTOR, len(piece) // SECTOR, out.tell(), len(packed)))
            out.write(packed)
            at += len(piece)
        sectors = size // SECTOR
        entries.append((0xFFFFFFFF, sectors, 0, out.tell(), 0))
        data_length = out.tell()
        # mish: version, first sector, sectors, data offset, buffers, descriptor, reserved, checksum, entry count
        table = struct.pack(">4sIQQQII24s", b"mish", 1, 0, sectors, 0, sectors_per_block + 8, 0, b"")
        table += struct.pack(">II128s", 2, 32, b"") + struct.pack(">I", len(entries))
        for kind, first, count, offset, length in entries:
            table += struct.pack(">IIQQQQ", kind, 0, first, count, offset, length)
        blkx = {"Attributes": "0x0050", "CFName": "disk", "Data": table, "ID": "0", "Name": "disk"}
        plist = plistlib.dumps({"resource-fork": {"blkx": [blkx]}}, fmt=plistlib.FMT_XML)
        out.write(plist)
        koly = struct.pack(">4sIIIQQQQQII16s", b"koly", 4, 512, 1, 0, 0, data_length, 0, 0, 1, 1, os.urandom(16))
        koly += struct.pack(">II128s", 2, 32, b"") + struct.pack(">QQ120s", data_length, len(plist), b"")
        koly += struct.pack(">II128s", 2, 32, b"") + struct.pack(">IQ12s", 1, sectors, b"")
        assert len(koly) == 512, len(koly)
        out.write(koly)
