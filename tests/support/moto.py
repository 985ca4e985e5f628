"""moto's server, with what it does otherwise than S3 mended as far as the tests need it:

- the answer to ListParts is called ListPartsResult (botocore does not look, others do);
- an upload that is not there, or is another key's, is NoSuchUpload, not an internal error or somebody else's upload;
- a copy can demand which object it copies and which it replaces, and Complete which it replaces.
"""

import sys
from urllib.parse import unquote, urlparse

from moto.s3 import models, responses
from moto.s3.exceptions import MissingKey, NoSuchUpload, PreconditionFailed
from moto.server import main


def find(backend, bucket, upload_id):
    upload = backend.get_bucket(bucket).multiparts.get(upload_id)
    if upload is None:
        raise NoSuchUpload(upload_id=upload_id)
    return upload


def of_this_key(method):
    def checked(self, *args, **kwargs):
        upload_id = self._get_param("uploadId")
        if find(self.backend, self.bucket_name, upload_id).key_name != self.parse_key_name():
            raise NoSuchUpload(upload_id=upload_id)
        return method(self, *args, **kwargs)

    return checked


def well_named(method):
    def renamed(self, *args, **kwargs):
        status, headers, body = method(self, *args, **kwargs)
        return status, headers, body.replace("ListPartsResponse", "ListPartsResult")

    return renamed


def found(method):
    def checked(self, bucket_name, multipart_id, *args, **kwargs):
        find(self, bucket_name, multipart_id)
        return method(self, bucket_name, multipart_id, *args, **kwargs)

    return checked


def check_tag(self, header, bucket_name, key_name):
    wanted = self.headers.get(header)
    if wanted is None:
        return
    there = self.backend.get_object(bucket_name, key_name)
    if there is None:
        raise MissingKey(key=key_name)
    if there.etag.strip('"') != wanted.strip('"'):
        raise PreconditionFailed(header)


def conditional(method):
    def checked(self, *args, **kwargs):
        source = unquote(urlparse(self.headers["x-amz-copy-source"]).path).lstrip("/")
        check_tag(self, "x-amz-copy-source-if-match", *source.split("/", 1))
        check_tag(self, "If-Match", self.bucket_name, self.parse_key_name())
        return method(self, *args, **kwargs)

    return checked


response, backend = responses.S3Response, models.S3Backend
response.list_parts = of_this_key(well_named(response.list_parts))
response.upload_part = of_this_key(response.upload_part)
response.abort_multipart_upload = of_this_key(response.abort_multipart_upload)
response.copy_object = conditional(response.copy_object)
response.upload_part_copy = conditional(response.upload_part_copy)
backend.complete_multipart_upload = found(backend.complete_multipart_upload)

complete = response._key_response_post


def key_response_post(self, *args, **kwargs):
    upload_id = self._get_param("uploadId")
    upload = self.backend.get_bucket(self.bucket_name).multiparts.get(upload_id)
    if upload is not None and upload.key_name != self.parse_key_name():
        raise NoSuchUpload(upload_id=upload_id)
    if upload is not None:
        check_tag(self, "If-Match", self.bucket_name, self.parse_key_name())
    return complete(self, *args, **kwargs)


response._key_response_post = key_response_post

sys.exit(main())
