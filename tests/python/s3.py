"""Prepares and reads a bucket with boto3, as an administrator would.

    s3.py provision BUCKET PREFIX     creates the bucket, a user that may only
                                      put objects below PREFIX, and one that may
                                      only read; prints their keys as JSON
    s3.py download BUCKET FOLDER      downloads everything into FOLDER
    s3.py may-not-read BUCKET         fails unless the key in use can neither
                                      list nor get nor delete

The server and the key come from the environment, as for every AWS client.
"""

import json
import os
import pathlib
import sys

import boto3
from botocore.exceptions import ClientError

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]


def client(service):
    return boto3.client(service, endpoint_url=ENDPOINT)


def user(name, statements):
    iam = client("iam")
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": statements}
    iam.put_user_policy(
        UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy)
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}


def provision(bucket, prefix):
    client("s3").create_bucket(Bucket=bucket)
    writer = [
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*",
        }
    ]
    reader = [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
    ]
    keys = {"writer": user(f"{bucket}-writer", writer)}
    keys["reader"] = user(f"{bucket}-reader", reader)
    print(json.dumps(keys))


def download(bucket, folder):
    s3 = client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for entry in (entry for page in pages for entry in page.get("Contents", [])):
        target = pathlib.Path(folder, entry["Key"])
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, entry["Key"], str(target))


def may_not_read(bucket):
    s3 = client("s3")
    refused = [
        lambda: s3.list_objects_v2(Bucket=bucket),
        lambda: s3.get_object(Bucket=bucket, Key="any"),
        lambda: s3.delete_object(Bucket=bucket, Key="any"),
    ]
    for call in refused:
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDenied":
                continue
            raise
        sys.exit("the key may do more than put objects")


VERBS = {"provision": provision, "download": download, "may-not-read": may_not_read}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
