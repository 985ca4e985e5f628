"""Access keys with few rights: `rights.py URL ID SECRET`, the owner's key; the others are in `s3_clients.rs`."""

import sys

import boto3
import oss2
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from botocore.config import Config
from botocore.exceptions import ClientError

import rpc

url, key_id, secret = sys.argv[1:]


def s3(key_id, secret):
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=key_id, aws_secret_access_key=secret, region_name="local",
                        config=Config(s3={"addressing_style": "path"}))


def kms(key_id, secret, action, **parameters):
    return rpc.call(AcsClient(key_id, secret, "local", auto_retry=False), url.split("://")[1], action, **parameters)


def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ClientError as error:
        found = error.response["Error"]["Code"]
    except oss2.exceptions.OssError as error:
        found = error.code
    except ServerException as error:
        found = error.get_error_code()
    else:
        raise AssertionError(f"{call} {args} {kwargs} is not refused")
    assert found in ("AccessDenied", "Forbidden.NoPermission"), found


owner, few = s3(key_id, secret), s3("few", "few rights")
for bucket in ["team-a", "shared", "private"]:
    owner.create_bucket(Bucket=bucket)
    owner.put_object(Bucket=bucket, Key="object", Body=bucket.encode())

few.put_object(Bucket="team-a", Key="mine", Body=b"mine")
few.copy_object(Bucket="team-a", Key="copy", CopySource="shared/object")
assert few.get_object(Bucket="shared", Key="object")["Body"].read() == b"shared"
assert few.list_objects_v2(Bucket="shared")["KeyCount"] == 1
refused(few.put_object, Bucket="shared", Key="mine", Body=b"mine")
refused(few.delete_object, Bucket="shared", Key="object")
refused(few.delete_objects, Bucket="shared", Delete={"Objects": [{"Key": "object"}]})
refused(few.create_multipart_upload, Bucket="shared", Key="mine")
refused(few.get_object, Bucket="private", Key="object")
refused(few.list_objects_v2, Bucket="private")
refused(few.copy_object, Bucket="team-a", Key="copy", CopySource="private/object")
refused(few.create_bucket, Bucket="team-b")
refused(few.delete_bucket_encryption, Bucket="team-a")

for auth in [oss2.Auth("few", "few rights"), oss2.AuthV4("few", "few rights")]:
    few = {bucket: oss2.Bucket(auth, url, bucket, region="local") for bucket in ["team-a", "team-b", "shared", "private"]}
    few["team-a"].put_object("mine", b"mine")
    few["team-a"].copy_object("shared", "object", "copy")
    assert few["shared"].get_object("object").read() == b"shared"
    refused(few["shared"].put_object, "mine", b"mine")
    refused(few["shared"].delete_object, "object")
    refused(few["shared"].batch_delete_objects, ["object"])
    refused(few["shared"].init_multipart_upload, "mine")
    refused(few["private"].get_object, "object")
    refused(few["private"].list_objects_v2)
    refused(few["team-a"].copy_object, "private", "object", "copy")
    refused(few["team-b"].create_bucket)
    refused(few["team-a"].delete_bucket_encryption)

cmk = kms(key_id, secret, "CreateKey")["KeyMetadata"]["KeyId"]
refused(kms, "few", "few rights", "DescribeKey", KeyId=cmk)
assert kms("user", "of keys", "DescribeKey", KeyId=cmk)["KeyMetadata"]["KeyId"] == cmk
kms("user", "of keys", "GenerateDataKey", KeyId=cmk)
refused(kms, "user", "of keys", "CreateKey")
refused(kms, "user", "of keys", "DisableKey", KeyId=cmk)
refused(s3("user", "of keys").get_object, Bucket="shared", Key="object")
