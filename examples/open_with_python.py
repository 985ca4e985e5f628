#!/usr/bin/env python3
"""Opens a sealed object without Sealift, to show that its format stands on its own: see FORMAT.md.

    open_with_python.py BODY OBJECT_ID <DATA_KEY_IN_HEX >PLAINTEXT

BODY is a file with the object's whole body, OBJECT_ID its metadata `sealift-object-id`. The data key is read from the
standard input, because command lines can be seen by others. Needs PyPI's `cryptography` 50 or newer.
"""

import base64
import struct
import sys
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor


def unseal(key: bytes, context: bytes, message: bytes) -> bytes:
    opener = Cobblestone256Decryptor(key, context)
    return opener.update(message) + opener.finalize()  # raises InvalidTag unless all of it is authentic


def check(rule: bool, broken: str) -> None:
    if not rule:
        sys.exit(f"not a sealed object, or not a whole one: {broken}")


def check_attributes(attributes: bytes) -> None:
    (count,) = struct.unpack_from(">H", attributes)
    names, at = [], 2
    for _ in range(count):
        name = attributes[at + 1 : at + 1 + attributes[at]]
        (value_len,) = struct.unpack_from(">H", attributes, at + 1 + len(name))
        names.append(name.decode())
        at += 1 + len(name) + 2 + value_len
    check(at == len(attributes) <= 4_096 and "" not in names and names == sorted(set(names)), "attributes")


def open_object(body: bytes, object_id: bytes, key: bytes) -> bytes:
    # Trailer: sealed manifest ‖ its length u32 ‖ "SEALIFT1"
    check(len(body) >= 102 and body.endswith(b"SEALIFT1"), "no trailer")
    (sealed_len,) = struct.unpack(">I", body[-12:-8])
    check(90 <= sealed_len <= min(444_616, len(body) - 12), "length of the trailer")
    parts_end = len(body) - 12 - sealed_len

    # Manifest: header, a row for each part, attributes
    manifest = unseal(key, b"sealift/v1/manifest\0" + object_id, body[parts_end:-12])
    version, flags, zeros, count, total = struct.unpack_from(">BBHIQ", manifest)
    check(version == 1 and flags in (0, 1) and zeros == 0 and len(manifest) >= 18 + 44 * count, "manifest")
    rows = list(struct.iter_unpack(">IQQ24s", manifest[16 : 16 + 44 * count]))
    numbers, lens, checksums, _ = zip(*rows) if rows else ((), (), (), ())
    check(list(numbers) == sorted(set(numbers)) and all(1 <= number <= 10_000 for number in numbers), "part numbers")
    check(all(1 <= length <= 5_363_471_288 for length in lens) and sum(lens) == total, "part lengths")
    check(flags == 1 or not any(checksums), "checksums")
    check_attributes(manifest[16 + 44 * count :])

    # Parts: each is the one sealing that the manifest names, exactly where the lengths put it
    sealed_lens = [56 + length + 16 * (length // 16_384 + 1) for length in lens]
    check(sum(sealed_lens) == parts_end, "length of the body")
    plaintext, at = [], 0
    for (number, length, _checksum, salt), sealed_len in zip(rows, sealed_lens):
        part, at = body[at : at + sealed_len], at + sealed_len
        check(part[:24] == salt, f"salt of part {number}")
        opened = unseal(key, b"sealift/v1/part\0" + object_id + struct.pack(">I", number), part)
        check(len(opened) == length, f"length of part {number}")
        plaintext.append(opened)
    return b"".join(plaintext)


if __name__ == "__main__":
    body_file, object_id = sys.argv[1:]
    data_key = bytes.fromhex(sys.stdin.read().strip())
    sys.stdout.buffer.write(
        open_object(Path(body_file).read_bytes(), base64.urlsafe_b64decode(object_id + "=="), data_key)
    )
