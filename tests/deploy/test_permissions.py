"""The policies of the guides: enough for every operation, and each permission needed; moto enforces them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.deploy.guides import blocks
from tests.deploy.tool import ROOT
from tests.running import run, target, write

NEVER = 1_000_000
"""Requests before moto asks for permissions."""
OPERATIONS = {
    "s3:PutObject": {"put"},
    "s3:GetObject": {"get", "head"},
    "s3:ListBucket": {"list"},
    "s3:DeleteObject": {"delete"},
}
"""What each permission is for, as docs/start-aws.md says."""


def policy(page: str) -> dict[str, Any]:
    (text,) = blocks(ROOT / "docs" / f"start-{page}.md", "json", "Statement")
    found: dict[str, Any] = json.loads(text)
    return found


def actions(document: Mapping[str, Any]) -> list[str]:
    listed = [each["Action"] for each in document["Statement"]]
    return sorted(name for each in listed for name in ([each] if isinstance(each, str) else each))


def without(document: Mapping[str, Any], action: str) -> dict[str, Any]:
    statements = [
        {**each, "Action": [name for name in actions({"Statement": [each]}) if name != action]}
        for each in document["Statement"]
    ]
    return {**document, "Statement": [each for each in statements if each["Action"]]}


@dataclass
class Storage:
    """S3 with the bucket `media`, and IAM."""

    url: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="root",
            aws_secret_access_key="root",
        )

    def ask_for_permissions(self, after: int) -> None:
        plain = {"Content-Type": "text/plain"}
        request = Request(f"{self.url}/moto-api/reset-auth", str(after).encode(), plain)
        with urlopen(request) as answer:
            assert answer.status == 200

    @contextmanager
    def user(self, document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The keys of a user who may do what the policy says, while permissions are asked for."""
        iam = self.client("iam")
        name = f"user-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="probe", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.ask_for_permissions(0)
        try:
            yield {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        finally:
            self.ask_for_permissions(NEVER)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    it = Storage(f"http://{host}:{port}")
    it.ask_for_permissions(NEVER)
    it.client("s3").create_bucket(Bucket="media")
    yield it
    server.stop()


def refused(
    storage: Storage,
    folder: Path,
    document: Mapping[str, Any],
    operations: str,
    prefix: str = ".r2-exporter/",
) -> set[str]:
    """The operations that this policy does not permit."""
    probe = {"operations": operations.split(), "key_prefix": prefix}
    with storage.user(document) as keys:
        config = folder / "exporter.yaml"
        write(config, target("media", storage.url, "media", probe=probe, **keys))
        outcomes = json.loads(run("check", "--output=json", f"--config.file={config}").stdout)
    assert [each["operation"] for each in outcomes] == operations.split()
    failed = [each for each in outcomes if not each["success"]]
    assert {each["status"] for each in failed} <= {403}
    return {each["operation"] for each in failed}


ALL = "put get head list delete"


@pytest.mark.parametrize("page", ["aws", "minio"])
def test_the_policy_is_enough(storage: Storage, tmp_path: Path, page: str) -> None:
    assert refused(storage, tmp_path, policy(page), ALL) == set()


@pytest.mark.parametrize("action", OPERATIONS)
def test_each_permission_is_needed_and_for_what_the_table_says(
    storage: Storage, tmp_path: Path, action: str
) -> None:
    assert refused(storage, tmp_path, without(policy("aws"), action), ALL) == OPERATIONS[action]
    table = ROOT.joinpath("docs", "start-aws.md").read_text()
    rows = re.findall(r"^\| (\w+) \| `\w+` \| `(s3:\w+)` \|", table, re.M)
    assert {operation for operation, needed in rows if needed == action} == OPERATIONS[action]


def test_the_policy_permits_nothing_elsewhere_in_the_bucket(storage: Storage, tmp_path: Path) -> None:
    outside = refused(storage, tmp_path, policy("aws"), "put get head delete", prefix="elsewhere/")
    assert outside == {"put", "get", "head", "delete"}


@pytest.mark.parametrize("page", ["minio", "ceph"])
def test_the_other_policies_permit_the_same(page: str) -> None:
    assert actions(policy(page)) == actions(policy("aws")) == sorted(OPERATIONS)
    resources = [json.dumps(each["Resource"]).strip('[]"') for each in policy(page)["Statement"]]
    assert resources == [each["Resource"] for each in policy("aws")["Statement"]]


def test_a_storage_takes_the_bucket_policy_and_the_lifecycle_rule(storage: Storage) -> None:
    s3 = storage.client("s3")
    s3.put_bucket_policy(Bucket="media", Policy=json.dumps(policy("ceph")))
    s3.delete_bucket_policy(Bucket="media")
    (rules,) = blocks(ROOT / "docs" / "start-aws.md", "json", '"Rules"')
    s3.put_bucket_lifecycle_configuration(Bucket="media", LifecycleConfiguration=json.loads(rules))
    (kept,) = s3.get_bucket_lifecycle_configuration(Bucket="media")["Rules"]
    assert kept["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
