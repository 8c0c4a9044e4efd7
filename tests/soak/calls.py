"""A steady mix of everything that can be asked of an exporter over HTTP, and which answers are in order."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from exporter.web.paths import WEBHOOK

PATIENCE = 30.0
"""Seconds for an answer: a check of all targets, some of which hang, may take its time."""


@dataclass(frozen=True)
class Call:
    """One kind of request. Paths and bodies are given the name of some target."""

    method: str
    path: str
    weight: int = 4
    body: Callable[[str], Any] | None = None
    statuses: tuple[int, ...] = (200,)


def notified(name: str) -> dict[str, Any]:
    """As Alertmanager tells of an alert that it sent on."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "R2TargetDown", "target": name, "severity": "critical"},
        "annotations": {"summary": f"{name} is down"},
        "startsAt": datetime.now(UTC).isoformat(),
    }
    return {"version": "4", "receiver": "team", "status": "firing", "alerts": [alert]}


CALLS = (
    Call("GET", "/"),
    Call("GET", "/?target={name}"),
    Call("GET", "/status.css"),
    Call("GET", "/api/health"),
    Call("GET", "/api/health/history?limit=500"),
    Call("GET", "/api/health/history?target={name}&success=false&offset=20"),
    Call("GET", "/api/health/metrics?hours=24", 1),
    Call("GET", "/api/health/metrics?hours=720&target={name}"),
    Call("GET", "/api/health/circuit-breaker"),
    Call("GET", "/api/health/alerts"),
    Call("GET", "/api/health/config?target={name}"),
    Call("GET", "/api/health/config/changes"),
    Call("GET", "/api/openapi.json", 1),
    Call("GET", "/sd"),
    Call("GET", "/-/healthy"),
    Call("GET", "/-/ready"),
    Call("GET", "/probe?target={name}"),
    Call("GET", "/probe?target={name}&operations=head&debug=true"),
    Call("GET", "/nothing", 1, statuses=(404,)),
    Call("GET", "/api/health/history?limit=5000", 1, statuses=(400,)),
    Call("POST", "/api/health/check?target={name}", 2),
    Call("POST", "/api/health/check", 1, lambda _: {"operations": ["head", "get"]}),
    Call("POST", "/api/health/circuit-breaker/reset?target={name}", 2),
    Call("PUT", "/api/health/config?target={name}", 2, lambda _: {"failureThreshold": 4}),
    Call("PUT", "/api/health/config?target={name}", 2, lambda _: {"failureThreshold": None}),
    Call("PUT", "/api/health/config", 1, lambda _: {"checkInterval": "often"}, (400,)),
    Call("POST", "/api/health/config/changes/1/revert", 1, statuses=(200, 404)),
    Call("POST", "/api/health/alerts/1/resolve", 1, statuses=(200, 404, 409)),
    Call("POST", WEBHOOK, 2, notified),
    Call("POST", "/-/reload", 1),
)
WEIGHTS = [call.weight for call in CALLS]


@dataclass
class Caller:
    """Asks an exporter of these targets, on and on."""

    url: str
    names: list[str]
    chance: random.Random
    answers: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")

    async def call(self, pause: float) -> None:
        """Until cancelled, `pause` seconds at the mean between two calls."""
        timeout = aiohttp.ClientTimeout(PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(self.chance.uniform(0, 2 * pause))
                if self.chance.random() < 0.05:
                    await self._hang_up()
                else:
                    [call] = self.chance.choices(CALLS, WEIGHTS)
                    await self._ask(session, call)

    async def _ask(self, session: aiohttp.ClientSession, call: Call) -> None:
        name = self.chance.choice(self.names)
        body = None if call.body is None else call.body(name)
        url = URL(self.url + call.path.format(name=name), encoded=True)
        began = asyncio.get_running_loop().time()
        async with session.request(call.method, url, json=body) as answer:
            text = await answer.text()
        took = asyncio.get_running_loop().time() - began
        self.slowest = max(self.slowest, (took, f"{call.method} {call.path}"))
        assert answer.status in call.statuses, (call.method, url, answer.status, text[:500])
        self.answers[f"{call.method} {answer.status}"] += 1

    async def _hang_up(self) -> None:
        """Asks for much, and leaves before it has come."""
        place = URL(self.url)
        _, writer = await asyncio.open_connection(place.host, place.port)
        path = self.chance.choice(["/metrics", "/api/health", "/api/health/history?limit=1000"])
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.authority}\r\n\r\n".encode())
        await asyncio.sleep(self.chance.choice([0, 0.005, 0.05]))
        writer.transport.abort()
        self.answers["hung up"] += 1
