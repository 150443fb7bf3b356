"""Prepares and reads buckets with boto3, as an administrator would.

    s3.py provision BUCKET PREFIX     creates BUCKET with Object Lock (compliance,
                                      a day), BUCKET-plain with nothing, a user
                                      with the policy of deploy/aws for the host
                                      test-host below PREFIX (* for any object),
                                      and one that may only read; prints their
                                      keys as JSON
    s3.py download BUCKET FOLDER      downloads everything into FOLDER
    s3.py may-only-put BUCKET PREFIX  fails unless the key in use can put its
                                      own objects and do nothing else
    s3.py arrivals BUCKET             prints key and time of each object that
                                      appears, until its input ends
    s3.py protection BUCKET           prints what protects each object, and fails
                                      if the key in use can delete one for good

The server and the key come from the environment, as for every AWS client.
"""

import json
import os
import pathlib
import select
import sys
import time

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


def agent_policy(bucket, prefix):
    """The policy that is shipped, filled in."""
    if prefix == "*":
        objects = f"arn:aws:s3:::{bucket}/*"
        return [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": objects}]
    shipped = pathlib.Path(__file__).parents[2] / "deploy/aws/agent-policy.json"
    filled = (
        shipped.read_text()
        .replace("REPLACE-WITH-YOUR-BUCKET/auditty", f"{bucket}/{prefix}")
        .replace("REPLACE-WITH-HOST-ID", "test-host")
    )
    if "REPLACE" in filled:
        sys.exit("the policy has a place that is not filled in")
    return json.loads(filled)["Statement"]


def provision(bucket, prefix):
    s3 = client("s3")
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    retention = {"Mode": "COMPLIANCE", "Days": 1}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    s3.create_bucket(Bucket=f"{bucket}-plain")
    reader = [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
    ]
    keys = {"writer": user(f"{bucket}-writer", agent_policy(bucket, prefix))}
    keys["reader"] = user(f"{bucket}-reader", reader)
    print(json.dumps(keys))


def download(bucket, folder):
    s3 = client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for entry in (entry for page in pages for entry in page.get("Contents", [])):
        target = pathlib.Path(folder, entry["Key"])
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, entry["Key"], str(target))


def denied(what, call):
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "403"):
            return
        raise
    sys.exit(f"the key may do more than put objects: {what}")


def may_only_put(bucket, prefix):
    s3 = client("s3")
    own = f"{prefix}/v1/host=test-host/checks/own"
    s3.put_object(Bucket=bucket, Key=own, Body=b"own", IfNoneMatch="*")
    here = {"Bucket": bucket, "Key": own}
    other = f"{prefix}/v1/host=test-host-2/checks/own"
    lock = {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": time.time() + 86400}}
    tags = {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}
    refused = {
        "put for another host": lambda: s3.put_object(Bucket=bucket, Key=other),
        "put elsewhere": lambda: s3.put_object(Bucket=bucket, Key="own"),
        "put into another bucket": lambda: s3.put_object(
            Bucket=f"{bucket}-plain", Key=own
        ),
        "get": lambda: s3.get_object(**here),
        "head": lambda: s3.head_object(**here),
        "attributes": lambda: s3.get_object_attributes(
            **here, ObjectAttributes=["Checksum"]
        ),
        "delete": lambda: s3.delete_object(**here),
        "delete a version": lambda: s3.delete_object(**here, VersionId="any"),
        "copy": lambda: s3.copy_object(**here, CopySource=here),
        "retention": lambda: s3.put_object_retention(**here, **lock),
        "legal hold": lambda: s3.put_object_legal_hold(
            **here, LegalHold={"Status": "OFF"}
        ),
        "tag": lambda: s3.put_object_tagging(**here, **tags),
        "access list": lambda: s3.put_object_acl(**here, ACL="public-read"),
        "list": lambda: s3.list_objects_v2(Bucket=bucket),
        "list versions": lambda: s3.list_object_versions(Bucket=bucket),
        "list uploads": lambda: s3.list_multipart_uploads(Bucket=bucket),
        "read the bucket's policy": lambda: s3.get_bucket_policy(Bucket=bucket),
        "stop versioning": lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "change the lock": lambda: s3.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        ),
        "expire objects": lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "x",
                        "Filter": {"Prefix": ""},
                        "Status": "Enabled",
                        "Expiration": {"Days": 1},
                    }
                ]
            },
        ),
        "delete the bucket": lambda: s3.delete_bucket(Bucket=bucket),
        "list buckets": lambda: s3.list_buckets(),
        "make a user": lambda: client("iam").create_user(UserName="other"),
    }
    for what, call in refused.items():
        denied(what, call)


def arrivals(bucket):
    s3 = client("s3")
    seen = set()
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in (entry for page in pages for entry in page.get("Contents", [])):
            if entry["Key"] not in seen:
                seen.add(entry["Key"])
                print(json.dumps([entry["Key"], time.time()]))


def protection(bucket):
    s3 = client("s3")
    for version in s3.list_object_versions(Bucket=bucket).get("Versions", []):
        here = {"Bucket": bucket, "Key": version["Key"]}
        head = s3.head_object(**here, ChecksumMode="ENABLED")
        wanted = {
            "mode": "ObjectLockMode",
            "encryption": "ServerSideEncryption",
            "kms_key": "SSEKMSKeyId",
            "sha256": "ChecksumSHA256",
        }
        print(json.dumps({"key": version["Key"]} | {n: head.get(f) for n, f in wanted.items()}))
        there = here | {"VersionId": version["VersionId"]}
        denied(
            "delete a locked version",
            lambda: s3.delete_object(**there, BypassGovernanceRetention=True),
        )


VERBS = {
    "provision": provision,
    "download": download,
    "may-only-put": may_only_put,
    "arrivals": arrivals,
    "protection": protection,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
