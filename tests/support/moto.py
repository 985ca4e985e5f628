"""moto's server, with what it does otherwise than S3 mended as far as the tests need it:

- the answer to ListParts is called ListPartsResult (botocore does not look, others do);
- an upload that is not there, or is another key's, is NoSuchUpload, not an internal error or somebody else's upload;
- a checksum that comes behind a body is not answered with a CRC-32 in its place;
- a copy can demand which object it copies and which it replaces, and Complete which it replaces.

With `SEALIFT_AHEAD`, its clock is that many seconds ahead, and as strict as S3's: what was signed more than 15 minutes from it is refused.
"""

import os
import sys
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from urllib.parse import unquote, urlparse

import moto.server
from moto.s3 import models, responses
from moto.s3.exceptions import MissingKey, NoSuchUpload, PreconditionFailed
from moto.server import main
from werkzeug.serving import WSGIRequestHandler


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


def honest(method):
    def told(self, headers):
        algorithm, value = method(self, headers)
        header = f"x-amz-checksum-{algorithm.lower()}"
        if self.headers.get(header) is None:
            headers.pop(header, None)
        return algorithm, value

    return told


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
response._get_checksum = honest(response._get_checksum)
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


ahead = timedelta(seconds=int(os.environ.get("SEALIFT_AHEAD", "0")))


def strict(app):
    def checked(environ, start):
        signed = environ.get("HTTP_X_AMZ_DATE")
        if signed:
            signed = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            if abs(signed - datetime.now(timezone.utc) - ahead) > timedelta(minutes=15):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
                start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        return app(environ, start)

    return checked


if ahead:
    run = moto.server.run_simple
    moto.server.run_simple = lambda host, port, app, *args, **kwargs: run(host, port, strict(app), *args, **kwargs)
    WSGIRequestHandler.date_time_string = lambda *_: format_datetime(datetime.now(timezone.utc) + ahead, usegmt=True)

sys.exit(main())
