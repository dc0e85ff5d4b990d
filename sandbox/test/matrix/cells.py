"""What may whoever runs this do in each bucket? One line a cell: bucket, call, outcome.

It is run with AWS's own SDK as it comes: outside with a profile, in a pod with what the pod
was given. The outcome is "allowed", AWS's error code, or "no credentials".
"""
import functools
import os
import re
import ssl
import sys
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

who, buckets = sys.argv[1], sys.argv[2:]
# Whoever has no role must not be given the machine's, should it be one of AWS.
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


@functools.cache
def s3():
    return boto3.client("s3", config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}))


def outcome(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    except (NoCredentialsError, CredentialRetrievalError):
        return "no credentials"
    except urllib.error.HTTPError as error:
        code = re.search(rb"<Code>(\w+)</Code>", error.read())
        return code.group(1).decode() if code else f"HTTP {error.code}"
    return "allowed"


def fetch(operation, method, bucket, key, data=None):
    url = s3().generate_presigned_url(operation, Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)
    trust = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
    urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), context=trust).read()


for bucket in buckets:
    for name, call in {
        "list": lambda: s3().list_objects_v2(Bucket=bucket),
        "get": lambda: s3().get_object(Bucket=bucket, Key="matrix/shared")["Body"].read(),
        "put": lambda: s3().put_object(Bucket=bucket, Key=f"matrix/{who}", Body=b"put"),
        "delete": lambda: s3().delete_object(Bucket=bucket, Key=f"matrix/{who}"),
        "presigned-get": lambda: fetch("get_object", "GET", bucket, "matrix/shared"),
        "presigned-put": lambda: fetch("put_object", "PUT", bucket, f"matrix/{who}-presigned", b"put"),
    }.items():
        print(bucket, name, outcome(call), flush=True)
