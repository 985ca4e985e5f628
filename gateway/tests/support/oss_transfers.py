"""Transfers by Alibaba's clients: `oss_transfers.py URL ID SECRET CMK DIRECTORY`. Objects in parts, ranges, signed URLs, what is refused."""

import base64
import hashlib
import os
import pathlib
import sys
import threading

import alibabacloud_oss_v2 as oss
import oss2
import requests

url, key_id, secret, cmk, directory = sys.argv[1:]
directory = pathlib.Path(directory)
SSE = {"x-oss-server-side-encryption": "KMS", "x-oss-server-side-encryption-key-id": cmk}
DATA = os.urandom(3 * (1 << 20) + 12_345)
path = directory / "data"
path.write_bytes(DATA)

bucket = oss2.Bucket(oss2.AuthV4(key_id, secret), url, "transfers", region="local")
bucket.create_bucket()


def refused(status, code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except oss2.exceptions.OssError as error:
        assert (error.status, error.code or code) == (status, code), error
    else:
        raise AssertionError(f"{code} was expected")


# oss2's resumable upload, in parallel parts, checks the CRC-64 of the whole; encrypted and not.
for name, headers in [("plain", None), ("sealed", SSE)]:
    resume = oss2.ResumableStore(root=str(directory))
    done = oss2.resumable_upload(bucket, name, str(path), store=resume, headers=headers, multipart_threshold=200 << 10,
                                 part_size=300 << 10, num_threads=4)
    head = bucket.head_object(name)
    assert head.content_length == len(DATA) and head.headers["x-oss-object-type"] == "Multipart"
    assert head.etag.endswith("-11"), head.etag
    assert head.headers["x-oss-hash-crc64ecma"] == str(done.crc)
    assert (head.headers.get("x-oss-server-side-encryption-key-id") == cmk) == (headers is not None)
    target = directory / "back"
    oss2.resumable_download(bucket, name, str(target), multiget_threshold=200 << 10, part_size=500_000, num_threads=4, store=oss2.ResumableDownloadStore(root=str(directory)))
    assert target.read_bytes() == DATA
    for first, last in [(0, 0), (300_000, 320_000), (len(DATA) - 5, len(DATA) - 1)]:
        assert bucket.get_object(name, byte_range=(first, last)).read() == DATA[first:last + 1]
    assert bucket.get_object(name, byte_range=(None, 7)).read() == DATA[-7:]
    # What is no range of the object is the whole of it, unless asked otherwise.
    assert len(bucket.get_object(name, byte_range=(5, len(DATA))).read()) == len(DATA)
    refused(416, "InvalidRange", bucket.get_object, name, byte_range=(len(DATA), None), headers={"x-oss-range-behavior": "standard"})

# The Python v2 SDK's uploader.
config = oss.config.load_default()
config.credentials_provider = oss.credentials.StaticCredentialsProvider(key_id, secret)
config.region, config.endpoint, config.retry_max_attempts = "local", url, 1
client = oss.Client(config)
request = oss.PutObjectRequest(bucket="transfers", key="v2", server_side_encryption="KMS", server_side_encryption_key_id=cmk)
done = client.uploader().upload_file(request, filepath=str(path), part_size=256 << 10, parallel_num=4, leave_parts_on_error=True)
assert str(done.hash_crc64) == bucket.head_object("v2").headers["x-oss-hash-crc64ecma"]
client.downloader().download_file(oss.GetObjectRequest(bucket="transfers", key="v2"), filepath=str(directory / "v2"), part_size=1 << 20)
assert (directory / "v2").read_bytes() == DATA
got = client.get_object(oss.GetObjectRequest(bucket="transfers", key="v2", range_header="bytes=10-19", range_behavior="standard"))
assert got.body.read() == DATA[10:20]

# Parts of one upload from many threads, each a few times.
upload = bucket.init_multipart_upload("threads", headers=SSE).upload_id
parts = [os.urandom(100 << 10) for _ in range(8)] + [b"the end"]
stored = {}


def send(number):
    for _ in range(2):
        stored[number] = bucket.upload_part("threads", upload, number, parts[number - 1])


threads = [threading.Thread(target=send, args=[number]) for number in range(1, 10)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
listed = bucket.list_parts("threads", upload, max_parts=5)
assert [part.part_number for part in listed.parts] == [1, 2, 3, 4, 5] and listed.is_truncated
refused(400, "InvalidPart", bucket.complete_multipart_upload, "threads", upload, [oss2.models.PartInfo(1, "0" * 32, size=1, part_crc=1)])
info = [oss2.models.PartInfo(number, stored[number].etag, size=len(parts[number - 1]), part_crc=stored[number].crc) for number in range(1, 10)]
bucket.complete_multipart_upload("threads", upload, info)
assert bucket.get_object("threads").read() == b"".join(parts)
# Its answer may have been lost. With other parts, it is not what was done.
bucket.complete_multipart_upload("threads", upload, info)
refused(404, "NoSuchUpload", bucket.complete_multipart_upload, "threads", upload, info[:-1])

# A digest that is wrong breaks the write behind it.
good, bad = (base64.b64encode(hashlib.md5(text).digest()).decode() for text in (b"text", b"other"))
bucket.put_object("digest", b"text", headers={"Content-MD5": good, **SSE})
refused(400, "InvalidDigest", bucket.put_object, "digest", b"TEXT", headers={"Content-MD5": bad, **SSE})
assert bucket.get_object("digest").read() == b"text"

# The bucket's default.
refused(404, "NoSuchServerSideEncryptionRule", bucket.get_bucket_encryption)
rule = oss2.models.ServerSideEncryptionRule()
rule.sse_algorithm, rule.kms_master_keyid = oss2.SERVER_SIDE_ENCRYPTION_KMS, cmk
bucket.put_bucket_encryption(rule)
assert bucket.get_bucket_encryption().kms_master_keyid == cmk
assert bucket.put_object("default", b"x").headers["x-oss-server-side-encryption-key-id"] == cmk
bucket.delete_bucket_encryption()
assert "x-oss-server-side-encryption" not in bucket.put_object("default", b"x").headers
assert bucket.put_object("default", b"x", headers={"x-oss-server-side-encryption": "AES256"}).headers["x-oss-server-side-encryption"] == "AES256"

# What is refused, as documented.
key_header = "x-oss-server-side-encryption-key-id"
refused(400, "InvalidArgument", bucket.put_object, "no", b"x", headers={key_header: cmk})
refused(400, "InvalidParameter", bucket.put_object, "no", b"x", headers={**SSE, key_header: "nonsense"})
refused(400, "InvalidParameter", bucket.put_object, "no", b"x", headers={**SSE, key_header: f"acs:kms:mars:1:key/{cmk}"})
refused(400, "InvalidEncryptionAlgorithmError", bucket.put_object, "no", b"x", headers={"x-oss-server-side-encryption": "ROT13"})
refused(400, "InvalidDataEncryptionAlgorithmError", bucket.put_object, "no", b"x", headers={**SSE, "x-oss-server-side-data-encryption": "DES"})
refused(404, "NoSuchBucket", oss2.Bucket(bucket.auth, url, "nowhere", region="local").put_object, "no", b"x")
refused(403, "SignatureDoesNotMatch", oss2.Bucket(oss2.Auth(key_id, "wrong"), url, "transfers").get_object, "v2")
refused(403, "InvalidAccessKeyId", oss2.Bucket(oss2.Auth("nobody", secret), url, "transfers").get_object, "v2")
refused(403, "AccessDenied", oss2.Bucket(oss2.AnonymousAuth(), url, "transfers").get_object, "v2", headers={"x-oss-range-behavior": "standard"})
refused(404, "NoSuchKey", bucket.get_object, "no")

# The client's own metadata and headers, conditions, deletions.
bucket.put_object("meta", b"x", headers={"x-oss-meta-colour": "blau-grün".encode(), "Content-Type": "text/plain", "Cache-Control": "no-cache", **SSE})
head = bucket.head_object("meta")
assert (head.headers["Content-Type"], head.headers["Cache-Control"]) == ("text/plain", "no-cache")
assert head.headers["x-oss-meta-colour"].encode("latin-1").decode() == "blau-grün"
refused(304, "", bucket.get_object, "meta", headers={"If-None-Match": head.headers["ETag"]})
refused(412, "PreconditionFailed", bucket.get_object, "meta", headers={"If-Match": '"0"'})
assert bucket.get_object("meta", params={"response-content-type": "x/y"}).headers["Content-Type"] == "x/y"
meta = bucket.get_object_meta("meta")
assert (meta.content_length, meta.etag) == (1, head.etag)
bucket.put_object("dir/a&b<ü", b"x")
assert bucket.batch_delete_objects(["dir/a&b<ü", "default", "none"]).deleted_keys == ["dir/a&b<ü", "default", "none"]
assert [b.name for b in oss2.Service(bucket.auth, url, region="local").list_buckets().buckets] == ["transfers"]
assert bucket.get_bucket_info().location == "oss-local" and bucket.get_bucket_acl().acl == "private"

# A customer's key, which is kept by nobody.
customer = os.urandom(32)
customers = {"x-oss-server-side-encryption-customer-algorithm": "AES256",
             "x-oss-server-side-encryption-customer-key": base64.b64encode(customer).decode(),
             "x-oss-server-side-encryption-customer-key-md5": base64.b64encode(hashlib.md5(customer).digest()).decode()}
bucket.put_object("customer", b"mine", headers=customers)
assert bucket.get_object("customer", headers=customers).read() == b"mine"
refused(400, "InvalidArgument", bucket.get_object, "customer")

# Signed URLs, of both versions, for readers and writers without a key.
for auth in [oss2.Auth(key_id, secret), oss2.AuthV4(key_id, secret)]:
    signer = oss2.Bucket(auth, url, "transfers", region="local")
    signed = signer.sign_url("PUT", "signed/ä +", 60, slash_safe=True)
    assert requests.put(signed, data=b"signed", timeout=30).status_code == 200
    signed = signer.sign_url("GET", "signed/ä +", 60, slash_safe=True)
    assert requests.get(signed, timeout=30).content == b"signed"
    wrong = requests.get(signed.replace("ignature=", "ignature=0"), timeout=30)
    assert wrong.status_code == 403 and "SignatureDoesNotMatch" in wrong.text, wrong.text
