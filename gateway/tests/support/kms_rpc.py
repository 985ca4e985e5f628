"""Alibaba Cloud's SDK of the RPC protocol: every action of the gateway's KMS endpoint."""

import base64
import json
import sys
import time
import urllib.request

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.auth.composer import rpc_signature_composer
from aliyunsdkcore.client import AcsClient
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

import rpc

url, key_id, secret = sys.argv[1:4]
host, port = url.split("://")[1].split(":")


def connect(key_id=key_id, secret=secret):
    return AcsClient(key_id, secret, "local", port=int(port), auto_retry=False)


client = connect()


def call(action, **parameters):
    return rpc.call(client, host, action, **parameters)


def refused(status, code, action, **parameters):
    try:
        call(action, **parameters)
    except ServerException as error:
        assert (error.get_http_status(), error.get_error_code()) == (status, code), error
    else:
        raise AssertionError(f"{code} was expected")


b64 = lambda data: base64.b64encode(data).decode()
decoded = base64.b64decode

# The request classes of its own, and not only the common one.
from aliyunsdkkms.request.v20160120.ListKeysRequest import ListKeysRequest

listing = ListKeysRequest()
listing.set_endpoint(host)
listing.set_protocol_type("http")
first = json.loads(client.do_action_with_exception(listing))
assert first["TotalCount"] == 1 and len(first["Keys"]["Key"]) == 1, first

# A key of the service's own.
key = call("CreateKey", Description="mine", Tags='[{"TagKey":"team","TagValue":"web"}]')["KeyMetadata"]
assert (key["KeyState"], key["Origin"], key["KeyUsage"], key["KeySpec"]) == (
    "Enabled", "Aliyun_KMS", "ENCRYPT/DECRYPT", "Aliyun_AES_256"), key
k = key["KeyId"]
assert key["Arn"].startswith("acs:kms:local:") and key["Arn"].endswith(f":key/{k}"), key
described = call("DescribeKey", KeyId=key["Arn"])["KeyMetadata"]
assert described == key
assert call("ListResourceTags", KeyId=k)["Tags"]["Tag"] == [{"KeyId": k, "TagKey": "team", "TagValue": "web"}]
call("TagResource", KeyId=k, Tags='[{"TagKey":"a","TagValue":"b"}]')
call("UntagResource", KeyId=k, TagKeys='["team"]')
assert [tag["TagKey"] for tag in call("ListResourceTags", KeyId=k)["Tags"]["Tag"]] == ["a"]
call("UpdateKeyDescription", KeyId=k, Description="ours")
assert call("DescribeKey", KeyId=k)["KeyMetadata"]["Description"] == "ours"
refused(400, "UnsupportedOperation", "CreateKey", KeySpec="RSA_2048")
refused(400, "UnsupportedOperation", "CreateKey", ProtectionLevel="HSM")
refused(400, "InvalidParameter", "CreateKey", Origin="Mars")
refused(404, "Forbidden.KeyNotFound", "DescribeKey", KeyId="1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")
refused(404, "Forbidden.KeyNotFound", "DescribeKey", KeyId=key["Arn"].replace(":local:", ":mars:"))
refused(400, "MissingParameter", "DescribeKey")
refused(404, "InvalidAction.NotFound", "MakeCoffee")

# Aliases.
call("CreateAlias", AliasName="alias/ours", KeyId=k)
refused(400, "InvalidParameter", "CreateAlias", AliasName="alias/ours", KeyId=k)
aliases = {alias["AliasName"]: alias["KeyId"] for alias in call("ListAliases")["Aliases"]["Alias"]}
assert aliases["alias/ours"] == k and "alias/default" in aliases
assert call("ListAliasesByKeyId", KeyId=k)["TotalCount"] == 1
refused(404, "Forbidden.AliasNotFound", "UpdateAlias", AliasName="alias/none", KeyId=k)
refused(404, "Forbidden.AliasNotFound", "DeleteAlias", AliasName="alias/none")
refused(404, "Forbidden.AliasNotFound", "Encrypt", KeyId="alias/none", Plaintext=b64(b"x"))

# Encrypt, decrypt, data keys.
context = json.dumps({"sealift:object-id": "any", "ü": "ö"})
for plaintext in [b"x", bytes(range(256)) * 24]:
    sealed = call("Encrypt", KeyId="alias/ours", Plaintext=b64(plaintext), EncryptionContext=context)
    assert sealed["KeyId"] == k and sealed["KeyVersionId"] == key["PrimaryKeyVersion"]
    opened = call("Decrypt", CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=json.dumps(json.loads(context)))
    assert (decoded(opened["Plaintext"]), opened["KeyId"]) == (plaintext, k)
refused(400, "InvalidParameter", "Decrypt", CiphertextBlob=sealed["CiphertextBlob"])
refused(400, "InvalidParameter", "Decrypt", CiphertextBlob=b64(b"nonsense"))
refused(400, "InvalidParameter", "Decrypt", CiphertextBlob="no base64", EncryptionContext=context)
refused(400, "InvalidParameter", "Encrypt", KeyId=k, Plaintext=b64(bytes(6145)))
data = call("GenerateDataKey", KeyId=k)
assert len(decoded(data["Plaintext"])) == 32
assert call("Decrypt", CiphertextBlob=data["CiphertextBlob"])["Plaintext"] == data["Plaintext"]
assert len(decoded(call("GenerateDataKey", KeyId=k, KeySpec="AES_128")["Plaintext"])) == 16
assert len(decoded(call("GenerateDataKey", KeyId=k, NumberOfBytes="100")["Plaintext"])) == 100
without = call("GenerateDataKeyWithoutPlaintext", KeyId=k)
assert "Plaintext" not in without and len(decoded(call("Decrypt", CiphertextBlob=without["CiphertextBlob"])["Plaintext"])) == 32
moved = call("ReEncrypt", CiphertextBlob=data["CiphertextBlob"], DestinationKeyId="alias/default", DestinationEncryptionContext=context)
assert moved["KeyId"] != k
assert call("Decrypt", CiphertextBlob=moved["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == data["Plaintext"]

# Rotation: what was encrypted before still decrypts.
version = call("CreateKeyVersion", KeyId=k)["KeyVersion"]["KeyVersionId"]
assert version != key["PrimaryKeyVersion"] and call("DescribeKey", KeyId=k)["KeyMetadata"]["PrimaryKeyVersion"] == version
assert call("ListKeyVersions", KeyId=k)["TotalCount"] == 2
assert call("Decrypt", CiphertextBlob=data["CiphertextBlob"])["KeyVersionId"] == key["PrimaryKeyVersion"]
assert call("Encrypt", KeyId=k, Plaintext=b64(b"x"))["KeyVersionId"] == version

# States.
call("DisableKey", KeyId=k)
refused(409, "Rejected.Disabled", "Decrypt", CiphertextBlob=data["CiphertextBlob"])
refused(409, "Rejected.Disabled", "GenerateDataKey", KeyId=k)
call("EnableKey", KeyId=k)
refused(409, "Rejected.Enabled", "CancelKeyDeletion", KeyId=k)
refused(400, "InvalidParameter", "ScheduleKeyDeletion", KeyId=k, PendingWindowInDays="6")
call("ScheduleKeyDeletion", KeyId=k, PendingWindowInDays="7")
assert call("DescribeKey", KeyId=k)["KeyMetadata"]["DeleteDate"]
refused(409, "Rejected.PendingDeletion", "Encrypt", KeyId=k, Plaintext=b64(b"x"))
call("CancelKeyDeletion", KeyId=k)
doomed = call("CreateKey", Description="to be deleted")["KeyMetadata"]["KeyId"]
call("ScheduleKeyDeletion", KeyId=doomed, PendingWindowInDays="30")

# Bring your own key.
own = call("CreateKey", Origin="EXTERNAL")["KeyMetadata"]
assert (own["KeyState"], own["Origin"], own["PrimaryKeyVersion"]) == ("PendingImport", "EXTERNAL", ""), own
o = own["KeyId"]
refused(409, "Rejected.PendingImport", "Encrypt", KeyId=o, Plaintext=b64(b"x"))
refused(400, "UnsupportedOperation", "GetParametersForImport", KeyId=k, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
refused(400, "InvalidParameter", "GetParametersForImport", KeyId=o, WrappingAlgorithm="ROT13", WrappingKeySpec="RSA_2048")


def parameters(algorithm="RSAES_OAEP_SHA_256"):
    given = call("GetParametersForImport", KeyId=o, WrappingAlgorithm=algorithm, WrappingKeySpec="RSA_2048")
    assert given["KeyId"] == o and given["TokenExpireTime"].endswith("Z")
    return serialization.load_der_public_key(decoded(given["PublicKey"])), given["ImportToken"]


def oaep(algorithm):
    return padding.OAEP(padding.MGF1(algorithm), algorithm, None)


material = bytes(range(32))
paddings = {
    "RSAES_OAEP_SHA_256": oaep(hashes.SHA256()),
    "RSAES_OAEP_SHA_1": oaep(hashes.SHA1()),
    "RSAES_PKCS1_V1_5": padding.PKCS1v15(),
}
for algorithm, how in paddings.items():
    public, token = parameters(algorithm)
    wrapped = b64(public.encrypt(material, how))
    call("ImportKeyMaterial", KeyId=o, EncryptedKeyMaterial=wrapped, ImportToken=token, KeyMaterialExpireUnix="0")
    assert call("DescribeKey", KeyId=o)["KeyMetadata"]["KeyState"] == "Enabled"
    if algorithm == "RSAES_OAEP_SHA_256":
        sealed = call("Encrypt", KeyId=o, Plaintext=b64(b"mine"))["CiphertextBlob"]
    assert decoded(call("Decrypt", CiphertextBlob=sealed)["Plaintext"]) == b"mine"
    call("DeleteKeyMaterial", KeyId=o)
    refused(409, "Rejected.PendingImport", "Decrypt", CiphertextBlob=sealed)
public, token = parameters()
encrypt = lambda material: b64(public.encrypt(material, oaep(hashes.SHA256())))
importing = dict(KeyId=o, ImportToken=token, EncryptedKeyMaterial=encrypt(material))
refused(400, "InvalidKeyMaterial", "ImportKeyMaterial", **{**importing, "EncryptedKeyMaterial": encrypt(bytes(32))})
refused(400, "InvalidKeyMaterial", "ImportKeyMaterial", **{**importing, "EncryptedKeyMaterial": encrypt(bytes(16))})
refused(400, "InvalidImportToken", "ImportKeyMaterial", **{**importing, "ImportToken": b64(decoded(token)[:-1])})
refused(400, "InvalidParameter", "ImportKeyMaterial", KeyMaterialExpireUnix="1000", **importing)
soon = int(time.time()) + 3600
call("ImportKeyMaterial", KeyMaterialExpireUnix=str(soon), **importing)
expires = call("DescribeKey", KeyId=o)["KeyMetadata"]["MaterialExpireTime"]
assert expires == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon)), expires

# Paging, XML, and who is not let in.
page = call("ListKeys", PageSize="2", PageNumber="2")
assert (page["TotalCount"], len(page["Keys"]["Key"])) == (4, 2), page
asked = {"Action": "DescribeKey", "Version": "2016-01-20", "KeyId": k}
path = rpc_signature_composer.get_signed_url(asked, key_id, secret, "XML", "GET", {})[0]
body = urllib.request.urlopen(url + path).read()
assert f"<KeyId>{k}</KeyId>".encode() in body and b"<DescribeKeyResponse>" in body, body
client = connect(secret="another secret")
refused(400, "SignatureDoesNotMatch", "DescribeRegions")
client = connect(key_id="nobody")
refused(404, "InvalidAccessKeyId.NotFound", "DescribeRegions")
