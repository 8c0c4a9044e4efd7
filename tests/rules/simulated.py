"""An exporter on a clock of its own, with the real breaker and the real metrics, scraped now and then."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from exporter.admission import TargetBreaker
from exporter.alerts import Change, TargetAlerts
from exporter.breaker import State, Transition
from exporter.config import TargetSettings
from exporter.metrics import Metrics
from exporter.outcome import Failure, Operation, Outcome, Reason, SkipReason
from exporter.probe import BILLING
from exporter.series import Format
from exporter.status import TargetStatus
from exporter.target import thresholds

RULES = Path(__file__).parents[2] / "rules" / "r2-exporter.yml"
SCRAPE_SECONDS = 15.0
PLACE = 'job="r2",instance="localhost:9977"'
YEAR = 365 * 86_400.0

Storage = Callable[[Operation, float], tuple[Reason | None, float]]
"""How an operation at a time (seconds) ends, and how long it takes."""

Samples = Mapping[str, str]
"""What one scrape found: each series with its labels, and its value."""

_READ = set(re.findall(r"\br2_\w+", RULES.read_text()))
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


class Simulated:
    """Probes one target each interval as the exporter does; `scrapes` holds None where it was not there.

    `local` is the exporter's own alert state, which hears of the same outcomes.
    """

    def __init__(self, settings: TargetSettings, storage: Storage, phase: float = 4.0) -> None:
        self.settings, self._storage = settings, storage
        self.now = 0.0
        self._due = phase
        self.scrapes: list[Samples | None] = []
        self.first_failure: float | None = None
        self.local: list[tuple[float, Change]] = []
        self._alerts = TargetAlerts(settings, 0.0)
        self._last_open: tuple[Transition, Operation | None, float] | None = None
        self._begin()

    def run(self, until: float) -> None:
        """Probes as long as turns are due before that time."""
        while self._due < until:
            self._pass(self._due)
            self._turn()
            missed = math.floor((self.now - self._due) / self.settings.probe.interval)
            for operation in self.settings.probe.operations:
                self._metrics.skip(self.settings.name, operation, SkipReason.OVERRUN, missed)
            self._due += (missed + 1) * self.settings.probe.interval
        self._pass(until)

    def restart(self, seconds: float) -> None:
        """The exporter is gone for so long, and begins anew with its counters at 0."""
        self._pass(self.now + seconds, there=False)
        while self._due <= self.now:
            self._due += self.settings.probe.interval
        self._begin()

    def _begin(self) -> None:
        settings, name = self.settings, self.settings.name
        self._metrics, self._status = Metrics(), TargetStatus()
        self._breaker = TargetBreaker(settings.breaker, self.now)
        self._metrics.set_target(
            name,
            settings.probe.operations,
            labels={},
            bucket=settings.bucket,
            endpoint=settings.endpoint,
            region=settings.region,
            thresholds=thresholds(settings),
        )
        if self._last_open is not None:
            change, opener, recovery = self._last_open
            event = {
                "to_state": change.to_state,
                "occurred_at": change.at,
                "recovery_seconds": recovery,
                "operation": opener,
            }
            self._breaker.restore(event, self.now, self.now)
            self._alerts.restore((), self._breaker.status(self.now).state, self.now)
        self._metrics.breaker_state(name, self._breaker.status(self.now).state)
        self._seen: Samples | None = None

    def _turn(self) -> None:
        """One run, as App and Recorder carry it out."""
        admission = self._breaker.begin_run(self.settings.probe.operations, self.now)
        performed = set()
        for operation in admission.order:
            admitted = admission.admit(operation, self.now)
            self._tell()
            if not admitted:
                continue
            began = self.now
            reason, duration = self._storage(operation, self.now)
            if reason is not None and self.first_failure is None:
                self.first_failure = began
            self._pass(began + duration)
            outcome = self._outcome(operation, reason, began, duration)
            admission.observe(outcome, self.now)
            performed.add(operation)
            self._metrics.record(outcome)
            self._status.observe(outcome)
            self._alerts.observe(outcome, self.now)
            self._tell()
        admission.end()
        skipped = SkipReason.CIRCUIT_OPEN if admission.refused else SkipReason.OVERRUN
        for operation in admission.order:
            if operation not in performed:
                self._metrics.skip(self.settings.name, operation, skipped)
        self._tell()

    def _outcome(self, operation: Operation, reason: Reason | None, began: float, duration: float) -> Outcome:
        code = "InternalError" if reason is Reason.SERVER else ""
        failure = None if reason is None else Failure(reason, "", code)
        return Outcome(
            self.settings.name,
            operation,
            began,
            duration,
            request_id=f"request-{began:.0f}",
            failure=failure,
            billed=BILLING[operation],
            certificate_expiry=YEAR,
            clock_skew=0.2,
        )

    def _tell(self) -> None:
        name = self.settings.name
        for change in self._breaker.take_transitions():
            recovery = self._breaker.status(self.now).retry_after
            self._last_open = (change, self._breaker.opener, recovery)
            self._metrics.transition(name, change.from_state, change.to_state)
            self._metrics.breaker_state(name, change.to_state)
            self._alerts.breaker(change)
            if change.to_state is State.CLOSED:
                self._last_open = None
        if self._status.latest:
            up = self._breaker.admits_all and self._status.is_up(self.settings.probe.operations)
            self._metrics.target_up(name, up)
        self._judge()
        self._seen = None

    def _judge(self) -> None:
        self.local += [(self.now, change) for change in self._alerts.evaluate(self.now)]

    def _pass(self, until: float, *, there: bool = True) -> None:
        """Time passes, with its scrapes, and with what it alone changes in the local alerts."""
        while (at := len(self.scrapes) * SCRAPE_SECONDS) < until:
            self.scrapes.append(self._scrape() if there else None)
            self.now = max(self.now, at)
            if there and self._alerts.next_change_at(self.now) <= at + SCRAPE_SECONDS:
                self._judge()
        self.now = max(self.now, until)

    def _scrape(self) -> Samples:
        if self._seen is None:
            page = b"".join(self._metrics.registry.render(Format.TEXT, self.settings.name)).decode()
            self._seen = dict(_samples(page))
        return self._seen


def _samples(page: str) -> Iterator[tuple[str, str]]:
    for found in _LINE.finditer("\n".join(line for line in page.splitlines() if line[0] != "#")):
        name, labels, value = found.groups()
        if name in _READ:
            yield f"{name}{{{labels},{PLACE}}}", f"{float(value):.12g}"
    yield f"r2_exporter_build_info{{{PLACE}}}", "1"
    yield f"r2_exporter_history_up{{{PLACE}}}", "1"


def series(scrapes: Sequence[Samples | None], began: float = 0.0) -> list[dict[str, str]]:
    """What promtool takes as `input_series`. A series that ends is marked stale, as Prometheus does it.

    promtool's clock begins at 0 with the first scrape, which was made at `began`.
    """
    names = dict.fromkeys(name for found in scrapes if found is not None for name in found)
    columns = {name: [found.get(name) if found else None for found in scrapes] for name in names}
    for name, values in columns.items():
        if "_timestamp_seconds{" in name:
            columns[name] = [value and f"{float(value) - began:.12g}" for value in values]
    columns[f"up{{{PLACE}}}"] = ["0" if found is None else "1" for found in scrapes]
    return [{"series": name, "values": _notation(values)} for name, values in columns.items()]


def _notation(values: Sequence[str | None]) -> str:
    words, there = [], False
    for value, run in groupby(values):
        length = len(list(run))
        if value is not None:
            words.append(f"{value}+0x{length - 1}" if value != "NaN" else " ".join(["NaN"] * length))
        else:
            words += ["stale"] * there + [f"_x{length - there}"] * (length > there)
        there = value is not None
    return " ".join(words)
