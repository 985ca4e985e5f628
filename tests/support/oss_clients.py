"""Alibaba's own clients at work on the test's server: `oss_clients.py oss2|v2 v1|v4 ENDPOINT BUCKET REGION ID SECRET TOKEN`.

Every call that the store makes is made here, with the same arguments, and its effect is checked.
"""

import os
import sys

client, signature, endpoint, bucket_name, region, key_id, secret, token = sys.argv[1:]
PART = 100 << 10
CMK = os.environ.get("CMK", "a-cmk")
KEY, COPY, LARGE = "dir/ä b+c", "dir/copy", "dir/large"
BODY = bytes(range(256)) * 10
PARTS = [b"1" * PART, b"2" * PART, b"3"]
META = {"x-oss-meta-name": "value"}
SSE = {"x-oss-server-side-encryption": "KMS", "x-oss-server-side-encryption-key-id": CMK}


def told(headers):
    assert headers["x-oss-server-side-encryption"] == "KMS", dict(headers)
    assert headers["x-oss-server-side-encryption-key-id"] == CMK, dict(headers)


def with_oss2():
    import oss2

    class Static(oss2.credentials.CredentialsProvider):
        def get_credentials(self):
            return oss2.credentials.Credentials(key_id, secret, token or None)

    kind = oss2.ProviderAuthV4 if signature == "v4" else oss2.ProviderAuth
    bucket = oss2.Bucket(kind(Static()), endpoint, bucket_name, region=region)

    def refused(code, call, *args, **kwargs):
        try:
            call(*args, **kwargs)
        except oss2.exceptions.OssError as error:
            body = getattr(error, "code", None)
            assert body == code or error.status == code, error
        else:
            raise AssertionError(f"{code} was expected")

    put = bucket.put_object(KEY, BODY, headers={**META, **SSE, "x-oss-forbid-overwrite": "true"})
    told(put.headers)
    refused("FileAlreadyExists", bucket.put_object, KEY, BODY, headers={"x-oss-forbid-overwrite": "true"})
    head = bucket.head_object(KEY)
    told(head.headers)
    assert head.headers["x-oss-meta-name"] == "value" and head.content_length == len(BODY)
    got = bucket.get_object(KEY)
    assert got.read() == BODY
    told(got.headers)
    ranged = bucket.get_object(KEY, byte_range=(10, 19), headers={"x-oss-range-behavior": "standard", "If-Match": f'"{put.etag}"'})
    assert ranged.read() == BODY[10:20] and ranged.headers["Content-Range"] == f"bytes 10-19/{len(BODY)}"
    assert bucket.get_object(KEY, byte_range=(None, 5)).read() == BODY[-5:]
    refused(416, bucket.get_object, KEY, byte_range=(len(BODY), None), headers={"x-oss-range-behavior": "standard"})
    refused("PreconditionFailed", bucket.get_object, KEY, headers={"If-Match": '"ANOTHER"'})
    refused("NoSuchKey", bucket.get_object, "none")
    refused("NoSuchKey", bucket.head_object, "none")
    assert bucket.get_object_acl(KEY).acl == "default"
    copied = bucket.copy_object(bucket_name, KEY, COPY, headers={
        **SSE, "x-oss-storage-class": "Standard", "x-oss-metadata-directive": "COPY", "x-oss-tagging-directive": "COPY",
        "x-oss-copy-source-if-match": f'"{put.etag}"'})
    assert copied.etag == put.etag
    told(copied.headers)
    assert bucket.head_object(COPY).headers["x-oss-meta-name"] == "value"
    refused("InvalidArgument", bucket.put_object, COPY, BODY, headers={"x-oss-server-side-encryption-key-id": "k"})
    refused("InvalidEncryptionAlgorithmError", bucket.put_object, COPY, BODY, headers={"x-oss-server-side-encryption": "ROT13"})
    # Onto itself, metadata is what the request says.
    bucket.update_object_meta(COPY, {"x-oss-meta-other": "1"})
    assert "x-oss-meta-name" not in bucket.head_object(COPY).headers

    begun = bucket.init_multipart_upload(LARGE, headers={**META, **SSE})
    told(begun.headers)
    refused("InvalidArgument", bucket.upload_part, LARGE, begun.upload_id, 1, b"1", headers=SSE)
    parts, crc = [], 0
    for number, data in enumerate(PARTS, 1):
        stored = bucket.upload_part(LARGE, begun.upload_id, number, data)
        told(stored.headers)
        parts.append(oss2.models.PartInfo(number, stored.etag, size=len(data), part_crc=stored.crc))
    listed = bucket.list_parts(LARGE, begun.upload_id, max_parts=2)
    assert listed.is_truncated and [part.size for part in listed.parts] == [PART, PART]
    listed = bucket.list_parts(LARGE, begun.upload_id, marker=listed.next_marker)
    assert not listed.is_truncated and [part.part_number for part in listed.parts] == [3]
    uploads = bucket.list_multipart_uploads(prefix="dir/")
    assert [(u.key, u.upload_id) for u in uploads.upload_list] == [(LARGE, begun.upload_id)]
    refused("InvalidPart", bucket.complete_multipart_upload, LARGE, begun.upload_id,
            [oss2.models.PartInfo(1, "0" * 32, size=1, part_crc=1)])
    done = bucket.complete_multipart_upload(LARGE, begun.upload_id, parts, headers={"x-oss-forbid-overwrite": "true"})
    told(done.headers)
    assert bucket.get_object(LARGE).read() == b"".join(PARTS)
    given_up = bucket.init_multipart_upload(LARGE).upload_id
    bucket.upload_part_copy(bucket_name, KEY, (0, 99), LARGE, given_up, 1, headers={
        "x-oss-copy-source-if-match": f'"{put.etag}"'})
    bucket.abort_multipart_upload(LARGE, given_up)
    refused("NoSuchUpload", bucket.upload_part, LARGE, given_up, 1, b"1")

    names, token_ = [], ""
    while True:
        page = bucket.list_objects_v2(prefix="dir/", continuation_token=token_, max_keys=2)
        names += [row.key for row in page.object_list]
        if not page.is_truncated:
            break
        token_ = page.next_continuation_token
    assert names == sorted([COPY, LARGE, KEY]), names
    for name in names:
        bucket.delete_object(name)


def with_v2():
    import alibabacloud_oss_v2 as oss

    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(key_id, secret, token or None)
    config.region, config.endpoint = region, endpoint
    config.signature_version = signature
    config.retry_max_attempts = 1
    client = oss.Client(config)
    at = lambda key, **more: dict(bucket=bucket_name, key=key, **more)
    sse = dict(server_side_encryption="KMS", server_side_encryption_key_id=CMK)

    def refused(code, call, request):
        try:
            call(request)
        except oss.exceptions.OperationError as error:
            error = error.unwrap()
            assert error.code == code, error
        else:
            raise AssertionError(f"{code} was expected")

    put = client.put_object(oss.PutObjectRequest(**at(KEY, body=BODY, metadata={"name": "value"}, forbid_overwrite=True, **sse)))
    told(put.headers)
    refused("FileAlreadyExists", client.put_object, oss.PutObjectRequest(**at(KEY, body=BODY, forbid_overwrite=True)))
    head = client.head_object(oss.HeadObjectRequest(**at(KEY)))
    assert head.metadata == {"name": "value"} and head.content_length == len(BODY) and head.etag == put.etag
    assert head.server_side_encryption == "KMS" and head.server_side_encryption_key_id == CMK
    assert client.get_object(oss.GetObjectRequest(**at(KEY))).body.read() == BODY
    ranged = client.get_object(oss.GetObjectRequest(**at(KEY, range_header="bytes=10-19", range_behavior="standard", if_match=put.etag)))
    assert ranged.body.read() == BODY[10:20] and ranged.content_range == f"bytes 10-19/{len(BODY)}"
    refused("InvalidRange", client.get_object,
            oss.GetObjectRequest(**at(KEY, range_header=f"bytes={len(BODY)}-", range_behavior="standard")))
    refused("PreconditionFailed", client.get_object, oss.GetObjectRequest(**at(KEY, if_match='"ANOTHER"')))
    refused("NoSuchKey", client.get_object, oss.GetObjectRequest(**at("none")))
    refused("NoSuchKey", client.head_object, oss.HeadObjectRequest(**at("none")))
    assert client.get_object_acl(oss.GetObjectAclRequest(**at(KEY))).acl == "default"
    copied = client.copy_object(oss.CopyObjectRequest(**at(
        COPY, source_bucket=bucket_name, source_key=KEY, if_match=put.etag, storage_class="Standard",
        metadata_directive="COPY", tagging_directive="COPY", **sse)))
    assert copied.etag == put.etag and copied.server_side_encryption == "KMS", copied
    assert client.head_object(oss.HeadObjectRequest(**at(COPY))).metadata == {"name": "value"}

    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**at(LARGE, metadata={"name": "value"}, **sse)))
    told(begun.headers)
    upload, parts = begun.upload_id, []
    for number, data in enumerate(PARTS, 1):
        stored = client.upload_part(oss.UploadPartRequest(**at(LARGE, upload_id=upload, part_number=number, body=data)))
        told(stored.headers)
        parts.append(oss.UploadPart(part_number=number, etag=stored.etag))
    listed = client.list_parts(oss.ListPartsRequest(**at(LARGE, upload_id=upload, max_parts=2)))
    assert listed.is_truncated and [part.size for part in listed.parts] == [PART, PART]
    listed = client.list_parts(oss.ListPartsRequest(**at(LARGE, upload_id=upload, part_number_marker=listed.next_part_number_marker)))
    assert not listed.is_truncated and [part.part_number for part in listed.parts] == [3]
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket_name, prefix="dir/"))
    assert [(u.key, u.upload_id) for u in uploads.uploads] == [(LARGE, upload)]
    short = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**at(COPY))).upload_id
    small = [oss.UploadPart(part_number=n, etag=client.upload_part(
        oss.UploadPartRequest(**at(COPY, upload_id=short, part_number=n, body=b"x"))).etag) for n in (1, 2)]
    complete = lambda key, upload, parts, **more: oss.CompleteMultipartUploadRequest(
        **at(key, upload_id=upload, complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts), **more))
    refused("EntityTooSmall", client.complete_multipart_upload, complete(COPY, short, small))
    refused("InvalidPart", client.complete_multipart_upload, complete(LARGE, upload, [oss.UploadPart(part_number=1, etag="0")]))
    refused("FileAlreadyExists", client.complete_multipart_upload, complete(COPY, short, small[:1], forbid_overwrite=True))
    done = client.complete_multipart_upload(complete(LARGE, upload, parts, forbid_overwrite=True))
    told(done.headers)
    assert client.get_object(oss.GetObjectRequest(**at(LARGE))).body.read() == b"".join(PARTS)
    client.upload_part_copy(oss.UploadPartCopyRequest(**at(
        COPY, upload_id=short, part_number=1, source_bucket=bucket_name, source_key=KEY, source_range="bytes=0-99", if_match=put.etag)))
    client.abort_multipart_upload(oss.AbortMultipartUploadRequest(**at(COPY, upload_id=short)))
    given_up = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**at(LARGE))).upload_id
    client.abort_multipart_upload(oss.AbortMultipartUploadRequest(**at(LARGE, upload_id=given_up)))
    refused("NoSuchUpload", client.abort_multipart_upload, oss.AbortMultipartUploadRequest(**at(COPY, upload_id=short)))

    names = []
    for page in client.list_objects_v2_paginator().iter_page(oss.ListObjectsV2Request(bucket=bucket_name, prefix="dir/", max_keys=2)):
        names += [row.key for row in page.contents or []]
    assert names == sorted([COPY, LARGE, KEY]), names
    for name in names:
        client.delete_object(oss.DeleteObjectRequest(**at(name)))


{"oss2": with_oss2, "v2": with_v2}[client]()
