"""A target's probe on one side, its metrics on the other: what the failure and phase tests run."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from exporter.config import ProbeSettings, Secret, TargetSettings
from exporter.metrics import Metrics
from exporter.outcome import Operation, Outcome
from exporter.probe import Probe
from exporter.s3.address import Address
from exporter.s3.client import Client, tls_context
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials, StaticCredentials
from exporter.series import Format
from exporter.storage import Reply, Storage
from exporter.targets import make_probe

SECRET = "wJalrXUtnFEMI-secret"
SYSTEM_TLS = tls_context(None)


@dataclass(frozen=True, slots=True)
class Rig:
    """A probe wired to metrics as the exporter does it."""

    probe: Probe
    metrics: Metrics

    async def run(self) -> Mapping[Operation, Outcome]:
        """One run, every outcome recorded."""
        outcomes: dict[Operation, Outcome] = {}

        def record(outcome: Outcome, _reply: Reply) -> None:
            assert outcome.operation not in outcomes, "an operation was recorded twice"
            outcomes[outcome.operation] = outcome
            self.metrics.record(outcome)

        await self.probe.run(record)
        return outcomes

    def page(self) -> list[str]:
        """The lines of /metrics."""
        return b"".join(self.metrics.registry.render(Format.TEXT, None)).decode().splitlines()

    def counted(self, family: str) -> list[str]:
        """The lines of a counter that is not at 0."""
        return [line for line in self.page() if line.startswith(family + "{") and not line.endswith(" 0.0")]


@asynccontextmanager
async def rig(
    endpoint: str,
    *operations: Operation,
    tls: ssl.SSLContext = SYSTEM_TLS,
    resolver: aiohttp.abc.AbstractResolver | None = None,
    timeout: str = "10s",
    fresh_connection_every: int = 0,
    object_size: str = "1KiB",
) -> AsyncIterator[Rig]:
    """Closes the probe on the way out, and then proves that no task and no transport is left."""
    settings = ProbeSettings.model_validate(
        {
            "timeout": timeout,
            "operations": operations,
            "fresh_connection_every": fresh_connection_every,
            "object_size": object_size,
        }
    )
    target = TargetSettings(
        name="media",
        endpoint=endpoint,
        bucket="bucket",
        access_key_id=Secret("AKIDEXAMPLE"),
        secret_access_key=Secret(SECRET),
        labels={},
        probe=settings,
    )
    before = asyncio.all_tasks()
    probe = _probe(target, tls, resolver)
    metrics = Metrics()
    metrics.set_target(
        "media", operations, labels={}, bucket="bucket", endpoint=endpoint, region="auto", thresholds={}
    )
    try:
        yield Rig(probe, metrics)
    finally:
        await probe.close(grace=10)
        gc.collect()  # an unclosed transport warns when it is collected
        mine = {task for task in asyncio.all_tasks() - before if "FaultServer" not in repr(task)}
        assert not mine


def _probe(
    target: TargetSettings, tls: ssl.SSLContext, resolver: aiohttp.abc.AbstractResolver | None
) -> Probe:
    if resolver is None:
        return make_probe(target, tls, ChainCredentials(), Connections(), instance="test")
    storage = Storage(
        Address(target.endpoint, target.bucket),
        target.region,
        StaticCredentials("AKIDEXAMPLE", SECRET),
        Client(tls=tls, connections=Connections(resolver)),
    )
    return Probe(target, storage, "test", cleaned=lambda _: None)
