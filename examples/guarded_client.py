"""A boto3 program as it was, guarded by one line.

Copies files into a bucket under `guarded-client-example/`. Once the storage is down the rest of them are
not tried. See README.md here for how to run it.
"""

import sys
from pathlib import Path

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError

from exporter.guard import CircuitBreaker, CircuitOpenError, guard_client

breaker = CircuitBreaker("uploads")
client = boto3.client("s3")
guard_client(client, breaker)  # this is the line


def main(bucket: str, *files: str) -> None:
    for file in files:
        try:
            client.upload_file(file, bucket, f"guarded-client-example/{Path(file).name}")
            print(f"copied {file}")
        except CircuitOpenError as error:
            sys.exit(f"not tried: {file} and what follows; try again in {error.retry_after:.0f} s")
        except (S3UploadFailedError, BotoCoreError) as error:
            print(f"failed: {error}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: guarded_client.py BUCKET FILE...")
    main(*sys.argv[1:])
