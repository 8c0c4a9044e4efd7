"""One S3 server for all of these tests; a bucket, a server in front and a clock for each."""

from collections.abc import Iterator

import pytest

from tests.guard.rig import Rig, in_background
from tests.stores import Bucket, environment, front, moto


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    with (
        environment(
            AWS_CONFIG_FILE=nowhere, AWS_SHARED_CREDENTIALS_FILE=nowhere, AWS_EC2_METADATA_DISABLED="true"
        ),
        moto() as endpoint,
    ):
        yield endpoint


@pytest.fixture
def rig(store: str) -> Iterator[Rig]:
    with in_background(front(store)) as server:
        it = Rig(server, Bucket(store))
        yield it
        for client in it.clients:
            client.close()
