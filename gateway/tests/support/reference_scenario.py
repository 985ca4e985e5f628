"""The reference scenario: `reference_scenario.py URL ID SECRET STORE`, STORE being the directory behind the gateway.

An object is put in plaintext and encrypted afterwards, on the server's side, under a customer master key whose material the customer
brings. Alibaba's own clients do all of it, and know nothing of a gateway.
"""

import base64
import hashlib
import os
import pathlib
import sys

import oss2
from aliyunsdkcore.client import AcsClient
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

import rpc

url, key_id, secret, store = sys.argv[1:]
BUCKET, OBJECT = "test-hongkong-2025", "01.txt"
TEXT = b"The 62 bytes that are to be encrypted on the server's side...\n"
assert len(TEXT) == 62
SSE, SSE_KEY = "x-oss-server-side-encryption", "x-oss-server-side-encryption-key-id"


def kms(action, **parameters):
    return rpc.call(AcsClient(key_id, secret, "local", auto_retry=False), url.split("://")[1], action, **parameters)


def is_in_the_clear():
    return any(TEXT[:20] in path.read_bytes() for path in pathlib.Path(store).rglob("*") if path.is_file())


auths = {"v1": oss2.Auth(key_id, secret), "v4": oss2.AuthV4(key_id, secret)}
for version, auth in auths.items():
    bucket = oss2.Bucket(auth, url, BUCKET, region="local")
    bucket.create_bucket()

    # Put in plaintext; stat.
    bucket.put_object(OBJECT, TEXT)
    before = bucket.head_object(OBJECT)
    assert before.content_length == 62
    assert before.etag == hashlib.md5(TEXT).hexdigest().upper(), before.etag
    assert before.headers["x-oss-object-type"] == "Normal"
    assert SSE not in before.headers and SSE_KEY not in before.headers
    crc64 = before.headers["x-oss-hash-crc64ecma"]
    check = oss2.utils.Crc64()
    check.update(TEXT)
    assert crc64 == str(check.crc)
    assert is_in_the_clear()

    # A CMK without material, then the customer's own.
    cmk = kms("CreateKey", Origin="EXTERNAL")["KeyMetadata"]
    assert cmk["KeyState"] == "PendingImport"
    cmk = cmk["KeyId"]
    try:
        bucket.update_object_meta(OBJECT, {SSE: "KMS", SSE_KEY: cmk})
        raise AssertionError("a CMK without material encrypts nothing")
    except oss2.exceptions.ServerError as error:
        assert error.status == 409, error
    wanted = kms("GetParametersForImport", KeyId=cmk, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    public = serialization.load_der_public_key(base64.b64decode(wanted["PublicKey"]))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    material = public.encrypt(os.urandom(32), oaep)
    kms("ImportKeyMaterial", KeyId=cmk, EncryptedKeyMaterial=base64.b64encode(material).decode(),
        ImportToken=wanted["ImportToken"], KeyMaterialExpireUnix="0")
    assert kms("DescribeKey", KeyId=cmk)["KeyMetadata"]["KeyState"] == "Enabled"

    # Encrypted by a copy onto itself; stat.
    bucket.update_object_meta("01.txt", {"x-oss-server-side-encryption": "KMS", "x-oss-server-side-encryption-key-id": cmk})
    after = bucket.head_object(OBJECT)
    assert (after.headers[SSE], after.headers[SSE_KEY]) == ("KMS", cmk), dict(after.headers)
    assert (after.etag, after.headers["x-oss-hash-crc64ecma"], after.content_length) == (before.etag, crc64, 62)
    assert [(row.key, row.size, row.etag) for row in bucket.list_objects_v2().object_list] == [(OBJECT, 62, before.etag)]
    assert not is_in_the_clear()

    # Read.
    got = bucket.get_object(OBJECT)
    assert (got.headers[SSE], got.headers[SSE_KEY]) == ("KMS", cmk)
    assert got.read() == TEXT
    assert bucket.get_object(OBJECT, byte_range=(4, 11)).read() == TEXT[4:12]

    # Disabled: refused.
    kms("DisableKey", KeyId=cmk)
    for refused in [lambda: bucket.get_object(OBJECT), lambda: bucket.put_object("02", b"x", headers={SSE: "KMS", SSE_KEY: cmk})]:
        try:
            refused()
            raise AssertionError("a disabled CMK opens and encrypts nothing")
        except oss2.exceptions.ServerError as error:
            assert (error.status, error.details["EC"]) == (409, "0005-00000214"), error
    assert not is_in_the_clear()
    kms("EnableKey", KeyId=cmk)
    assert bucket.get_object(OBJECT).read() == TEXT
    if version == "v1":
        bucket.delete_object(OBJECT)
    else:
        print(cmk)
