"""What several attacks share."""

from dataclasses import replace

import pytest

from exporter.web.access import AccessPolicy
from exporter.web.server import Server
from exporter.web.toolkit import RateLimit, WebConfig


@pytest.fixture
def unlimited_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as an attack has: how many may come in a second is a question of its own."""
    policy_of, limit = Server._policy_of, RateLimit.model_construct(interval=1e-9, burst=1000)

    def lenient(server: Server, config: WebConfig) -> AccessPolicy:
        return replace(policy_of(server, config), write_limit=limit)

    monkeypatch.setattr(Server, "_policy_of", lenient)
