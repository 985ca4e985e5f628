"""Many clients that write at once until the gateway dies; then, whether all that was acknowledged is there, and nothing in part.

Each round has a bucket of its own."""

import hashlib
import json
import random
import sys
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

url, key_id, secret, mode, notes, number, threads = sys.argv[1:8]
bucket, threads = f"round-{number}", int(threads)
PART = 5 << 20


def connect():
    config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60,
                    max_pool_connections=threads)
    return boto3.session.Session().client("s3", endpoint_url=url, aws_access_key_id=key_id, aws_secret_access_key=secret,
                                          region_name="local", config=config)


def content(name):
    """What an object of this name has: everything follows from the name."""
    draw = random.Random(name)
    size = draw.choice([0, 1, 1000, 16384, 100_000, 300_000])
    if name.startswith("parts"):
        size += PART
    return hashlib.sha256(name.encode()).digest() * (size // 32 + 1)


def write():
    s3 = connect()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "local"})
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]})
    done, begun, failed, lock = [], [], [], threading.Lock()

    def work(number):
        for n in range(1_000_000):
            name = f"{'parts' if n % 8 == 7 else 'put'}/{number}/{n}"
            body = content(name)
            with lock:
                begun.append(name)
            try:
                if name.startswith("put"):
                    s3.put_object(Bucket=bucket, Key=name, Body=body)
                else:
                    at = dict(Bucket=bucket, Key=name)
                    at["UploadId"] = s3.create_multipart_upload(**at)["UploadId"]
                    parts = [{"PartNumber": i + 1, "ETag": s3.upload_part(PartNumber=i + 1, Body=body[i * PART:(i + 1) * PART], **at)["ETag"]}
                             for i in range(2) if body[i * PART:(i + 1) * PART]]
                    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **at)
            except ClientError as error:
                if error.response["Error"]["Code"] != "SlowDown":
                    failed.append(str(error))
                continue
            except BotoCoreError:
                return
            with lock:
                done.append(name)
                if len(done) == 1:
                    print("writing", flush=True)

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert done and not failed, failed[:5]
    json.dump({"done": done, "begun": begun}, open(notes, "w"))


def check():
    s3 = connect()
    noted = json.load(open(notes))
    done, begun = set(noted["done"]), set(noted["begun"])
    listed = {row["Key"]: row["Size"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
              for row in page.get("Contents", [])}
    missing = done - set(listed)
    assert not missing, f"acknowledged and not there: {sorted(missing)[:5]}"
    # What was being published when the end came may be there, and then is whole; at most one for each client.
    extra = set(listed) - done
    assert extra <= begun and len(extra) <= threads, extra
    names = list(listed)
    wrong = []

    def work(some):
        for name in some:
            if s3.get_object(Bucket=bucket, Key=name)["Body"].read() != content(name):
                wrong.append(name)

    workers = [threading.Thread(target=work, args=(names[n::8],)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, f"not what was sent: {wrong[:5]}"
    print(f"{len(done)} acknowledged and whole, {len(extra)} more were about to be")


{"write": write, "check": check}[mode]()
