"""Alibaba Cloud's newer SDK, which signs headers and body: bring your own key."""

import base64
import sys

from alibabacloud_kms20160120 import models
from alibabacloud_kms20160120.client import Client
from alibabacloud_tea_openapi.models import Config
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

url, key_id, secret = sys.argv[1:4]
host = url.split("://")[1]


def connect(secret):
    return Client(Config(access_key_id=key_id, access_key_secret=secret, endpoint=host, protocol="http", region_id="local"))


client = connect(secret)
key = client.create_key(models.CreateKeyRequest(origin="EXTERNAL", description="mine")).body.key_metadata
assert key.key_state == "PendingImport" and key.origin == "EXTERNAL"
given = client.get_parameters_for_import(models.GetParametersForImportRequest(
    key_id=key.key_id, wrapping_algorithm="RSAES_OAEP_SHA_256", wrapping_key_spec="RSA_2048")).body
public = serialization.load_der_public_key(base64.b64decode(given.public_key))
wrapped = public.encrypt(bytes(range(32)), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
client.import_key_material(models.ImportKeyMaterialRequest(
    key_id=key.key_id, encrypted_key_material=base64.b64encode(wrapped).decode(), import_token=given.import_token,
    key_material_expire_unix=0))
assert client.describe_key(models.DescribeKeyRequest(key_id=key.key_id)).body.key_metadata.key_state == "Enabled"
client.create_alias(models.CreateAliasRequest(alias_name="alias/mine", key_id=key.key_id))
sealed = client.encrypt(models.EncryptRequest(
    key_id="alias/mine", plaintext=base64.b64encode(b"62 bytes").decode(), encryption_context={"a b": "c&d=é"})).body
opened = client.decrypt(models.DecryptRequest(
    ciphertext_blob=sealed.ciphertext_blob, encryption_context={"a b": "c&d=é"})).body
assert base64.b64decode(opened.plaintext) == b"62 bytes" and opened.key_id == key.key_id
client.disable_key(models.DisableKeyRequest(key_id=key.key_id))
for call, code in [
    (lambda: client.decrypt(models.DecryptRequest(ciphertext_blob=sealed.ciphertext_blob)), "Rejected.Disabled"),
    (lambda: connect("another secret").list_keys(models.ListKeysRequest()), "SignatureDoesNotMatch"),
]:
    try:
        call()
    except Exception as error:
        assert getattr(error, "code", None) == code, error
    else:
        raise AssertionError(f"{code} was expected")
