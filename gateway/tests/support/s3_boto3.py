"""boto3: objects, ranges, conditions, encryption, copies, listings, multipart uploads, signatures in URLs."""

import base64
import hashlib
import hmac
import io
import os
import sys
import urllib.request
import zlib
from datetime import datetime, timedelta, timezone

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

url, key_id, secret = sys.argv[1:4]


def connect(secret=secret, **config):
    settings = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **config)
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=key_id, aws_secret_access_key=secret,
                        region_name="local", config=settings)


s3 = connect()


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, (found, code, error.response)
        return error.response
    raise AssertionError(f"{code} was expected")


# Buckets.
s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "local"})
refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket="bucket",
        CreateBucketConfiguration={"LocationConstraint": "local"})
s3.create_bucket(Bucket="public", CreateBucketConfiguration={"LocationConstraint": "local"})
assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket", "public"]
s3.head_bucket(Bucket="bucket")
refused("404", s3.head_bucket, Bucket="none")
assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] == "local"
assert "Status" not in s3.get_bucket_versioning(Bucket="bucket")
assert s3.get_bucket_acl(Bucket="bucket")["Grants"][0]["Permission"] == "FULL_CONTROL"
refused("ServerSideEncryptionConfigurationNotFoundError", s3.get_bucket_encryption, Bucket="bucket")

# An object as it is.
body = b"in the clear"
etag = f'"{hashlib.md5(body).hexdigest()}"'
put = s3.put_object(Bucket="bucket", Key="dir/plain ü+", Body=body, ContentType="text/plain", CacheControl="no-cache",
                    ContentEncoding="identity", Metadata={"color": "blue"}, Expires=datetime(2030, 1, 1, tzinfo=timezone.utc))
assert put["ETag"] == etag and "ServerSideEncryption" not in put, put
got = s3.get_object(Bucket="bucket", Key="dir/plain ü+")
assert got["Body"].read() == body and got["ETag"] == etag
assert (got["ContentType"], got["CacheControl"], got["Metadata"]) == ("text/plain", "no-cache", {"color": "blue"})
assert (got["ContentEncoding"], got["ExpiresString"]) == ("identity", "Tue, 01 Jan 2030 00:00:00 GMT"), got
at = dict(Bucket="bucket", Key="dir/plain ü+")
for given, expected, shown in [("bytes=3-5", body[3:6], "bytes 3-5/12"), ("bytes=-3", body[-3:], "bytes 9-11/12"),
                               ("bytes=5-", body[5:], "bytes 5-11/12"), ("bytes=0-100", body, "bytes 0-11/12")]:
    part = s3.get_object(Range=given, **at)
    assert part["Body"].read() == expected and part["ContentRange"] == shown
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    head = s3.head_object(Range=given, **at)
    assert (head["ContentLength"], head["ContentRange"]) == (len(expected), shown)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
refused("InvalidRange", s3.get_object, Range="bytes=12-", **at)
assert s3.get_object(ResponseContentType="a/b", **at)["ContentType"] == "a/b"

# Conditions.
s3.get_object(IfMatch=etag, **at)
assert refused("PreconditionFailed", s3.get_object, IfMatch='"x"', **at)["ResponseMetadata"]["HTTPStatusCode"] == 412
headers = refused("304", s3.head_object, IfNoneMatch=etag, **at)["ResponseMetadata"]["HTTPHeaders"]
assert headers["etag"] == etag and headers["last-modified"].endswith("GMT"), headers
sizes = s3.get_object_attributes(ObjectAttributes=["ETag", "ObjectSize", "StorageClass"], **at)
assert (sizes["ETag"].strip(chr(34)), sizes["ObjectSize"], sizes["StorageClass"]) == (etag.strip('"'), len(body), "STANDARD"), sizes
later = datetime.now(timezone.utc) + timedelta(hours=1)
refused("304", s3.head_object, IfModifiedSince=later, **at)
s3.head_object(IfUnmodifiedSince=later, **at)
refused("PreconditionFailed", s3.put_object, Body=b"x", IfNoneMatch="*", **at)
s3.put_object(Bucket="bucket", Key="new", Body=b"x", IfNoneMatch="*")

# Encrypted on the server's side: by the request, by the bucket, by the client's own key.
sealed = b"nobody else may read"
put = s3.put_object(Bucket="bucket", Key="sealed", Body=sealed, ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/default")
assert put["ServerSideEncryption"] == "aws:kms" and len(put["SSEKMSKeyId"]) == 36, put
head = s3.head_object(Bucket="bucket", Key="sealed")
assert (head["ContentLength"], head["ETag"]) == (len(sealed), f'"{hashlib.md5(sealed).hexdigest()}"')
assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", put["SSEKMSKeyId"])
assert s3.get_object(Bucket="bucket", Key="sealed", Range="bytes=7-10")["Body"].read() == sealed[7:11]
asking = connect()
asking.meta.events.register("before-sign.s3.GetObject", lambda request, **_: request.headers.add_header("x-amz-server-side-encryption", "aws:kms"))
refused("InvalidArgument", asking.get_object, Bucket="bucket", Key="sealed")
refused("KMS.NotFoundException", s3.put_object, Bucket="bucket", Key="x", Body=b"", ServerSideEncryption="aws:kms", SSEKMSKeyId="none")
refused("KMS.NotFoundException", s3.put_object, Bucket="bucket", Key="x", Body=b"", ServerSideEncryption="aws:kms",
        SSEKMSKeyId="arn:aws:kms:mars:1:key/" + put["SSEKMSKeyId"])
refused("InvalidEncryptionAlgorithmError", s3.put_object, Bucket="bucket", Key="x", Body=b"", ServerSideEncryption="aws:kms:dsse")
s3.put_bucket_encryption(Bucket="bucket", ServerSideEncryptionConfiguration={
    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]})
rule = s3.get_bucket_encryption(Bucket="bucket")["ServerSideEncryptionConfiguration"]["Rules"][0]
assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}, rule
assert s3.put_object(Bucket="bucket", Key="default", Body=sealed)["ServerSideEncryption"] == "AES256"
own = dict(SSECustomerAlgorithm="AES256", SSECustomerKey=os.urandom(32))
assert s3.put_object(Bucket="bucket", Key="own", Body=sealed, **own)["SSECustomerAlgorithm"] == "AES256"
assert s3.get_object(Bucket="bucket", Key="own", **own)["Body"].read() == sealed
refused("400", s3.head_object, Bucket="bucket", Key="own")
refused("AccessDenied", s3.get_object, Bucket="bucket", Key="own", SSECustomerAlgorithm="AES256", SSECustomerKey=os.urandom(32))

# Copies: to another name, onto itself with another encryption, and the other way round.
s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "dir/plain ü+"})
head = s3.head_object(Bucket="bucket", Key="copy")
assert (head["ETag"], head["Metadata"], head["ServerSideEncryption"]) == (etag, {"color": "blue"}, "AES256"), head
copied = s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/copy", ServerSideEncryption="aws:kms",
                        MetadataDirective="REPLACE", Metadata={"color": "red"})
assert (copied["CopyObjectResult"]["ETag"], copied["ServerSideEncryption"]) == (etag, "aws:kms")
got = s3.get_object(Bucket="bucket", Key="copy")
assert (got["Body"].read(), got["Metadata"], got["ServerSideEncryption"]) == (body, {"color": "red"}, "aws:kms")
refused("InvalidRequest", s3.copy_object, Bucket="bucket", Key="copy", CopySource="bucket/copy")
refused("PreconditionFailed", s3.copy_object, Bucket="bucket", Key="x", CopySource="bucket/copy", CopySourceIfMatch='"x"')
s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/own", **{f"CopySource{name}": value for name, value in own.items()})
assert s3.get_object(Bucket="bucket", Key="copy")["Body"].read() == sealed
s3.delete_bucket_encryption(Bucket="bucket")

# Checksums of every kind are kept, and come with the object if they are asked for; a wrong one stores nothing.
digits = b"123456789"
sums = {"CRC32": "y/Q5Jg==", "CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg=", "SHA1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
        "SHA256": "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="}
for algorithm, value in sums.items():
    for sse in [{}, {"ServerSideEncryption": "aws:kms"}]:
        put = s3.put_object(Bucket="bucket", Key="sum", Body=digits, **{f"Checksum{algorithm}": value}, **sse)
        assert (put[f"Checksum{algorithm}"], put["ChecksumType"]) == (value, "FULL_OBJECT"), put
        head = s3.head_object(Bucket="bucket", Key="sum", ChecksumMode="ENABLED")
        assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (value, "FULL_OBJECT"), head
        assert f"Checksum{algorithm}" not in s3.head_object(Bucket="bucket", Key="sum")
        got = s3.get_object(Bucket="bucket", Key="sum", ChecksumMode="ENABLED")
        assert (got["Body"].read(), got[f"Checksum{algorithm}"]) == (digits, value)
        part = s3.get_object(Bucket="bucket", Key="sum", Range="bytes=0-3", ChecksumMode="ENABLED")
        assert part["Body"].read() == digits[:4] and f"Checksum{algorithm}" not in part, part
        told = s3.get_object_attributes(Bucket="bucket", Key="sum", ObjectAttributes=["Checksum"])["Checksum"]
        assert told == {f"Checksum{algorithm}": value, "ChecksumType": "FULL_OBJECT"}, told
        copied = s3.copy_object(Bucket="bucket", Key="sum copy", CopySource="bucket/sum")["CopyObjectResult"]
        assert copied[f"Checksum{algorithm}"] == value, copied
        copied = s3.copy_object(Bucket="bucket", Key="sum copy", CopySource="bucket/sum", ChecksumAlgorithm="SHA1")
        assert copied["CopyObjectResult"]["ChecksumSHA1"] == sums["SHA1"], copied
    refused("BadDigest", s3.put_object, Bucket="bucket", Key="wrong", Body=b"another", **{f"Checksum{algorithm}": value})
    refused("InvalidRequest", s3.put_object, Bucket="bucket", Key="wrong", Body=digits, **{f"Checksum{algorithm}": "bad"})
# What botocore sends behind the body.
assert "ChecksumSHA256" in s3.put_object(Bucket="bucket", Key="sum", Body=digits, ChecksumAlgorithm="SHA256")
two = {"ChecksumSHA1": sums["SHA1"], "ChecksumSHA256": sums["SHA256"]}
refused("InvalidRequest", s3.put_object, Bucket="bucket", Key="wrong", Body=digits, **two)
wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
refused("BadDigest", s3.put_object, Bucket="bucket", Key="wrong", Body=body, ChecksumSHA256=wrong)
refused("BadDigest", s3.put_object, Bucket="bucket", Key="wrong", Body=body, ContentMD5=base64.b64encode(hashlib.md5(b"x").digest()).decode())
refused("404", s3.head_object, Bucket="bucket", Key="wrong")

# The transfer manager: parts in parallel, up and down, sealed under a CMK.
data = os.urandom(17_000_001)
config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
s3.upload_fileobj(io.BytesIO(data), "bucket", "large", Config=config, ExtraArgs={"ServerSideEncryption": "aws:kms", "Metadata": {"a": "b"}})
parts = [data[at:at + (5 << 20)] for at in range(0, len(data), 5 << 20)]
expected = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
head = s3.head_object(Bucket="bucket", Key="large")
assert (head["ETag"], head["ContentLength"], head["ServerSideEncryption"]) == (f'"{expected}-{len(parts)}"', len(data), "aws:kms")
back = io.BytesIO()
s3.download_fileobj("bucket", "large", back, Config=config)
assert back.getvalue() == data
assert s3.get_object(Bucket="bucket", Key="large", Range="bytes=5242870-5242890")["Body"].read() == data[5242870:5242891]

# A multipart upload by hand: out of order, one part twice, one copied, a small one last.
up = s3.create_multipart_upload(Bucket="bucket", Key="parts", ServerSideEncryption="AES256")
at = dict(Bucket="bucket", Key="parts", UploadId=up["UploadId"])
last = s3.upload_part(PartNumber=7, Body=b"the end", **at)["ETag"]
s3.upload_part(PartNumber=1, Body=b"wrong" * (1 << 20), **at)
first = s3.upload_part(PartNumber=1, Body=data[:5 << 20], **at)
assert first["ServerSideEncryption"] == "AES256"
middle = s3.upload_part_copy(PartNumber=2, CopySource="bucket/large", CopySourceRange="bytes=100-5242979", **at)["CopyPartResult"]["ETag"]
listed = s3.list_parts(MaxParts=2, **at)
assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, 5 << 20), (2, 5 << 20)] and listed["IsTruncated"]
assert [part["PartNumber"] for part in s3.list_parts(PartNumberMarker=2, **at)["Parts"]] == [7]
uploads = s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
assert [(one["Key"], one["UploadId"]) for one in uploads] == [("parts", up["UploadId"])]
chosen = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": middle}, {"PartNumber": 7, "ETag": last}]
refused("InvalidPart", s3.complete_multipart_upload, MultipartUpload={"Parts": [{"PartNumber": 3, "ETag": last}]}, **at)
refused("InvalidPartOrder", s3.complete_multipart_upload, MultipartUpload={"Parts": chosen[::-1]}, **at)
s3.complete_multipart_upload(MultipartUpload={"Parts": chosen}, **at)
# Its answer may have been lost.
s3.complete_multipart_upload(MultipartUpload={"Parts": chosen}, **at)
assert s3.get_object(Bucket="bucket", Key="parts")["Body"].read() == data[:5 << 20] + data[100:5242980] + b"the end"
up = s3.create_multipart_upload(Bucket="bucket", Key="small")
at = dict(Bucket="bucket", Key="small", UploadId=up["UploadId"])
small = [{"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=b"x", **at)["ETag"]} for n in (1, 2)]
refused("EntityTooSmall", s3.complete_multipart_upload, MultipartUpload={"Parts": small}, **at)
s3.abort_multipart_upload(**at)
refused("NoSuchUpload", s3.upload_part, PartNumber=1, Body=b"x", **at)

# An object by its parts.
for key, sse in [("by parts", {}), ("by parts, sealed", {"ServerSideEncryption": "aws:kms"})]:
    up = s3.create_multipart_upload(Bucket="bucket", Key=key, **sse)
    at = dict(Bucket="bucket", Key=key)
    bodies = {1: data[:5 << 20], 2: data[5 << 20:10 << 20], 4: data[10 << 20:11 << 20]}
    parts = [{"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=body, UploadId=up["UploadId"], **at)["ETag"]} for n, body in bodies.items()]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, UploadId=up["UploadId"], **at)
    for number, part_body in bodies.items():
        head, got = s3.head_object(PartNumber=number, **at), s3.get_object(PartNumber=number, **at)
        assert got["Body"].read() == part_body
        for answer in (head, got):
            assert (answer["PartsCount"], answer["ContentLength"]) == (3, len(part_body)), answer
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"].endswith(f"/{11 << 20}"), got
    refused("416", s3.head_object, PartNumber=3, **at)
    refused("InvalidPartNumber", s3.get_object, PartNumber=5, **at)
    refused("InvalidRequest", s3.get_object, PartNumber=1, Range="bytes=0-1", **at)
    page = s3.get_object_attributes(ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=1, **at)["ObjectParts"]
    assert (page["TotalPartsCount"], page["IsTruncated"], page["NextPartNumberMarker"]) == (3, True, 2), page
    assert [(part["PartNumber"], part["Size"]) for part in page["Parts"]] == [(2, 5 << 20)], page
    rest = s3.get_object_attributes(ObjectAttributes=["ObjectParts"], PartNumberMarker=2, **at)["ObjectParts"]
    assert [part["PartNumber"] for part in rest["Parts"]] == [4] and not rest["IsTruncated"], rest
    s3.copy_object(Bucket="bucket", Key="copy of parts", CopySource=at)
    refused("NotImplemented", s3.get_object, Bucket="bucket", Key="copy of parts", PartNumber=1)
one = s3.get_object(Bucket="bucket", Key="sealed", PartNumber=1)
assert one["Body"].read() == sealed and "PartsCount" not in one, one
refused("InvalidPartNumber", s3.get_object, Bucket="bucket", Key="sealed", PartNumber=2)

# Checksums of an object in parts: made of theirs, or of all bytes.
bodies = [b"A" * (5 << 20), b"B" * (5 << 20), b"C" * (5 << 20)]
for algorithm, of in [("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]:
    name = f"Checksum{algorithm}"
    raw = {"SHA256": lambda data: hashlib.sha256(data).digest(), "SHA1": lambda data: hashlib.sha1(data).digest(),
           "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big")}[algorithm]
    text = lambda data: base64.b64encode(raw(data)).decode()
    whole = text(b"".join(bodies)) if of == "FULL_OBJECT" else text(b"".join(map(raw, bodies))) + "-3"
    up = s3.create_multipart_upload(Bucket="bucket", Key="summed", ChecksumAlgorithm=algorithm, ChecksumType=of, ServerSideEncryption="aws:kms")
    assert (up["ChecksumAlgorithm"], up["ChecksumType"]) == (algorithm, of), up
    at = dict(Bucket="bucket", Key="summed", UploadId=up["UploadId"])
    other = "CRC32" if algorithm != "CRC32" else "SHA1"
    refused("InvalidRequest", s3.upload_part, PartNumber=1, Body=b"x", ChecksumAlgorithm=other, **at)
    refused("BadDigest", s3.upload_part, PartNumber=1, Body=b"x", **{name: text(b"y")}, **at)
    parts = []
    for number, data in enumerate(bodies, 1):
        part = s3.upload_part(PartNumber=number, Body=data, ChecksumAlgorithm=algorithm, **at)
        assert part[name] == text(data), part
        parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})
    listed = s3.list_parts(**at)
    assert [row[name] for row in listed["Parts"]] == [part[name] for part in parts], listed
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, of), listed
    wrong = [dict(parts[0], **{name: parts[1][name]}), *parts[1:]]
    complete = lambda parts, **asked: s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **asked, **at)
    refused("InvalidPart", complete, parts=wrong)
    refused("BadDigest", complete, parts=parts, **{name: text(b"x")})
    refused("InvalidRequest", complete, parts=parts, MpuObjectSize=5)
    done = complete(parts, MpuObjectSize=15 << 20, ChecksumType=of, **{name: whole})
    assert (done[name], done["ChecksumType"]) == (whole, of), done
    got = s3.get_object(Bucket="bucket", Key="summed", ChecksumMode="ENABLED")
    assert (got[name], got["ChecksumType"], got["Body"].read()) == (whole, of, b"".join(bodies))
refused("InvalidRequest", s3.create_multipart_upload, Bucket="bucket", Key="x", ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT")

# Listings.
for name in ["list/a/1", "list/a/2", "list/b", "list/c d"]:
    s3.put_object(Bucket="bucket", Key=name, Body=b"x")
page = s3.list_objects_v2(Bucket="bucket", Prefix="list/", Delimiter="/", MaxKeys=2)
assert [row["Prefix"] for row in page["CommonPrefixes"]] == ["list/a/"] and [row["Key"] for row in page["Contents"]] == ["list/b"]
rest = s3.list_objects_v2(Bucket="bucket", Prefix="list/", Delimiter="/", ContinuationToken=page["NextContinuationToken"])
assert [row["Key"] for row in rest["Contents"]] == ["list/c d"] and not rest["IsTruncated"]
old = s3.list_objects(Bucket="bucket", Prefix="list/", MaxKeys=3, Delimiter="")
assert "Delimiter" not in old, old
assert [row["Key"] for row in old["Contents"]] == ["list/a/1", "list/a/2", "list/b"] and old["IsTruncated"]
sizes = {row["Key"]: (row["Size"], row["ETag"]) for row in s3.list_objects_v2(Bucket="bucket")["Contents"]}
assert sizes["sealed"] == (len(sealed), f'"{hashlib.md5(sealed).hexdigest()}"'), sizes
# Objects have one version each, which is called null; another is not deleted for it.
page = s3.list_object_versions(Bucket="bucket", Prefix="list/", MaxKeys=3)
assert [(row["Key"], row["VersionId"], row["IsLatest"]) for row in page["Versions"]] == [
    (name, "null", True) for name in ["list/a/1", "list/a/2", "list/b"]], page
rest = s3.list_object_versions(Bucket="bucket", Prefix="list/", KeyMarker=page["NextKeyMarker"], VersionIdMarker=page["NextVersionIdMarker"])
assert [row["Key"] for row in rest["Versions"]] == ["list/c d"] and not rest["IsTruncated"]
one = dict(Key="list/c d", VersionId="1")
errors = s3.delete_objects(Bucket="bucket", Delete={"Objects": [one]})["Errors"]
assert [(row["Key"], row["Code"]) for row in errors] == [("list/c d", "NoSuchVersion")], errors
errors = s3.delete_objects(Bucket="bucket", Delete={"Objects": [dict(Key="list/c d", ETag="x")]})["Errors"]
assert [row["Code"] for row in errors] == ["NotImplemented"], errors
s3.delete_objects(Bucket="bucket", Delete={"Objects": [dict(Key="list/a/1", VersionId="null")]})
refused("404", s3.head_object, Bucket="bucket", Key="list/a/1")
s3.head_object(Bucket="bucket", Key="list/c d")

# Signatures in URLs, wrong ones, and none.
link = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "sealed"}, ExpiresIn=60)
assert urllib.request.urlopen(link).read() == sealed
up = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "by link"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(up, data=b"linked", method="PUT")).read()
assert s3.get_object(Bucket="bucket", Key="by link")["Body"].read() == b"linked"
refused("SignatureDoesNotMatch", connect("another").list_objects_v2, Bucket="bucket")
refused("InvalidRequest", connect(signature_version="s3").list_objects_v2, Bucket="bucket")
anybody = boto3.client("s3", endpoint_url=url, region_name="local", config=Config(signature_version=UNSIGNED))
refused("AccessDenied", anybody.get_object, Bucket="bucket", Key="sealed")
s3.put_object(Bucket="public", Key="for all", Body=b"welcome")
assert anybody.get_object(Bucket="public", Key="for all")["Body"].read() == b"welcome"
refused("AccessDenied", anybody.put_object, Bucket="public", Key="x", Body=b"")
# A signed payload that is another on the way is not stored.
import http.client
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
request = AWSRequest("PUT", f"{url}/bucket/altered", data=b"what was signed", headers={"x-amz-content-sha256": hashlib.sha256(b"what was signed").hexdigest()})
SigV4Auth(Credentials(key_id, secret), "s3", "local").add_auth(request)
connection = http.client.HTTPConnection(url.split("://")[1])
connection.request("PUT", "/bucket/altered", b"what was altere", dict(request.headers))
answer = connection.getresponse()
assert (answer.status, b"XAmzContentSHA256Mismatch" in answer.read()) == (400, True), answer.status
refused("404", s3.head_object, Bucket="bucket", Key="altered")

# Payloads that are signed chunk by chunk, as clients of other languages do: of one that is altered on the way, nothing is stored.
def put_chunks(chunks, alter=lambda body: body):
    request = AWSRequest("PUT", f"{url}/bucket/chunks", headers={
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(sum(map(len, chunks)))})
    SigV4Auth(Credentials(key_id, secret), "s3", "local").add_auth(request)
    headers = dict(request.headers)
    time, signature = headers["X-Amz-Date"], headers["Authorization"].split("Signature=")[1]
    scope, key = [time[:8], "local", "s3", "aws4_request"], b"AWS4" + secret.encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    body = b""
    for chunk in [*chunks, b""]:
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", time, "/".join(scope), signature, hashlib.sha256().hexdigest(), hashlib.sha256(chunk).hexdigest()])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        body += f"{len(chunk):x};chunk-signature={signature}\r\n".encode() + chunk + b"\r\n"
    connection = http.client.HTTPConnection(url.split("://")[1])
    connection.request("PUT", "/bucket/chunks", alter(body), headers)
    return connection.getresponse().status


chunks = [data[:65536], data[65536:131072], data[131072:140000]]
assert put_chunks(chunks) == 200
assert s3.get_object(Bucket="bucket", Key="chunks")["Body"].read() == b"".join(chunks)
for at in [70_000, 140_100]:
    assert put_chunks([chunk[::-1] for chunk in chunks], lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]) in (400, 403)
assert s3.get_object(Bucket="bucket", Key="chunks")["Body"].read() == b"".join(chunks)

# What is not here is refused, not ignored.
refused("NotImplemented", s3.put_object, Bucket="bucket", Key="x", Body=b"", Tagging="a=b")
refused("AccessControlListNotSupported", s3.put_object, Bucket="bucket", Key="x", Body=b"", ACL="public-read")
refused("InvalidStorageClass", s3.put_object, Bucket="bucket", Key="x", Body=b"", StorageClass="GLACIER")
refused("NoSuchVersion", s3.get_object, Bucket="bucket", Key="sealed", VersionId="1")
refused("NoSuchKey", s3.get_object, Bucket="bucket", Key="none")
try:
    urllib.request.urlopen(f"{url}/public/none")
except urllib.error.HTTPError as error:
    text = error.read().decode()
    assert f"<RequestId>{error.headers['x-amz-request-id']}</RequestId>" in text, text
else:
    raise AssertionError("there is no such object")
refused("NoSuchBucket", s3.get_object, Bucket="none", Key="none")

# Gone.
s3.delete_object(Bucket="bucket", Key="none")
refused("BucketNotEmpty", s3.delete_bucket, Bucket="bucket")
names = [row["Key"] for row in s3.list_objects_v2(Bucket="bucket")["Contents"]]
deleted = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": name} for name in names]})
# Those stay that the test looks for in the store.
s3.put_object(Bucket="bucket", Key="plain", Body=body)
s3.put_object(Bucket="bucket", Key="sealed", Body=sealed, ServerSideEncryption="aws:kms")
assert sorted(row["Key"] for row in deleted["Deleted"]) == sorted(names)
upload = s3.create_multipart_upload(Bucket="public", Key="never completed")["UploadId"]
s3.upload_part(Bucket="public", Key="never completed", UploadId=upload, PartNumber=1, Body=b"part")
refused("BucketNotEmpty", s3.delete_bucket, Bucket="public")
assert len(s3.list_multipart_uploads(Bucket="public")["Uploads"]) == 1
s3.delete_object(Bucket="public", Key="for all")
s3.delete_bucket(Bucket="public")
refused("404", s3.head_bucket, Bucket="public")
