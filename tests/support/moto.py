"""moto's server, with what it does otherwise than S3 mended as far as the tests need it:

- the answer to ListParts is called ListPartsResult (botocore does not look, others do);
- an upload that is not there, or is another key's, is NoSuchUpload, not an internal error or somebody else's upload.
"""

import sys

from moto.s3 import models, responses
from moto.s3.exceptions import NoSuchUpload
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


response, backend = responses.S3Response, models.S3Backend
response.list_parts = of_this_key(well_named(response.list_parts))
response.upload_part = of_this_key(response.upload_part)
response.abort_multipart_upload = of_this_key(response.abort_multipart_upload)
backend.complete_multipart_upload = found(backend.complete_multipart_upload)

complete = response._key_response_post


def key_response_post(self, *args, **kwargs):
    upload_id = self._get_param("uploadId")
    upload = self.backend.get_bucket(self.bucket_name).multiparts.get(upload_id)
    if upload is not None and upload.key_name != self.parse_key_name():
        raise NoSuchUpload(upload_id=upload_id)
    return complete(self, *args, **kwargs)


response._key_response_post = key_response_post

sys.exit(main())
