"""Before the first start: makes the API's token and the bucket to try on, each unless it is there.

usage: prepare.py TOKEN_FILE BUCKET_URL
"""

import os
import secrets
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 10
CONFLICT = 409


def make_token(file: Path) -> None:
    """A token that its owner and its group may read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as new:
        new.write(secrets.token_hex(32) + "\n")


def make_bucket(url: str) -> None:
    """A bucket at a storage that asks for no signature."""
    try:
        with urlopen(Request(url, method="PUT"), timeout=TIMEOUT_SECONDS):  # noqa: S310
            pass
    except HTTPError as error:
        if error.code != CONFLICT:  # somebody has it already
            raise


if __name__ == "__main__":
    make_token(Path(sys.argv[1]))
    make_bucket(sys.argv[2])
