"""Writes internal/awsdouble/routes.tsv: how the REST services tell their
operations apart. Run it with the environment that setup.sh makes:

    .cache/venv/bin/python test/python/routes.py > internal/awsdouble/routes.tsv

The facts are those of the AWS CLI's own service descriptions. A row has the
signing name, the operation, the method, the path, the query keys that must be
there ("key" or "key=value") and the headers that must be there.
"""

import re

import botocore.session

# The services that Biplane calls, and those that an account's administrator may
# look at first.
SERVICES = ["eks", "ram", "route53", "s3", "account", "backup", "batch", "efs", "lambda", "resource-groups", "scheduler"]

# Operations that share another one's route; the older name is of no use to anybody.
SUPERSEDED = {
    "GetBucketLifecycle", "PutBucketLifecycle",
    "GetBucketNotification", "PutBucketNotification",
    "ListDirectoryBuckets",  # told by its host name, which no double has
}

# Headers that tell two operations of one route apart. Other required headers
# only make a request valid.
TELLING = {"x-amz-copy-source", "x-amz-rename-source"}


def rows(service):
    model = botocore.session.get_session().get_service_model(service)
    for name in sorted(model.operation_names):
        if name in SUPERSEDED:
            continue
        operation = model.operation_model(name)
        uri = operation.http["requestUri"]
        # botocore drops the bucket from S3's paths, for its rules put it back.
        path, _, query = uri.partition("?")
        if service == "s3" and "{Bucket}" not in path and operation.input_shape \
                and "Bucket" in operation.input_shape.required_members:
            path = "/{Bucket}" + (path if path != "/" else "")
        keys = [k for k in query.split("&") if k and not k.startswith("x-id=")]
        headers = []
        shape = operation.input_shape
        for member, sub in (shape.members.items() if shape else []):
            where, wire = sub.serialization.get("location"), sub.serialization.get("name", member)
            if member in shape.required_members and where == "querystring":
                keys.append(wire)
            if where == "header" and wire.lower() in TELLING and member in shape.required_members:
                headers.append(wire.lower())
        yield [model.signing_name, name, operation.http["method"], re.sub(r"\?.*", "", path),
               "&".join(keys), ",".join(headers)]


def main():
    print("# Written by test/python/routes.py; do not edit.")
    for service in SERVICES:
        for row in rows(service):
            print("\t".join(row))


if __name__ == "__main__":
    main()
