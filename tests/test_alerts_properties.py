"""A target's alerts through any sequence of events, through R2's own outages, and on healthy days."""

import math
import random
from collections.abc import Collection

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exporter.admission import TargetBreaker
from exporter.alerts import SEVERITIES, Alert, AlertType, Change, End, Kept, Kind, Severity, TargetAlerts
from exporter.config import TargetSettings
from exporter.outcome import Operation, Reason
from tests.alerting import DEFAULT, DELETE, GET, PUT, START, Site, Storage, outcome, target, working

OPEN, ERRORS, SLOW, DEGRADED, RECOVERED = AlertType
PAGES = [kind for kind in AlertType if SEVERITIES[kind] in (Severity.HIGH, Severity.CRITICAL)]
MINUTE = 60.0
DAY = 86_400.0
BEGIN = START + 10 * MINUTE
"""When an outage begins, after ten good minutes."""

reasons = st.sampled_from([None, None, Reason.SERVER, Reason.TIMEOUT])


class Machine(RuleBasedStateMachine):
    """Runs with any results, time, settings, hands and restarts; a real breaker in between."""

    @initialize(enabled=st.booleans(), operations=st.sampled_from([(PUT,), (PUT, GET), DEFAULT]))
    def begin(self, enabled: bool, operations: tuple[Operation, ...]) -> None:
        self.now = START
        self.enabled, self.on_failure, self.threshold = enabled, True, 0.2
        self.operations: tuple[Operation, ...] = operations
        self.breaker = TargetBreaker(self.settings.breaker, self.now)
        self.alerts = TargetAlerts(self.settings, self.now)
        self.active: dict[AlertType, tuple[Alert, float]] = {}
        self.by_hand: set[AlertType] = set()

    @property
    def settings(self) -> TargetSettings:
        return target(
            probe={"operations": [str(each) for each in self.operations]},
            breaker={"enabled": self.enabled},
            alerts={"on_failure": self.on_failure, "error_rate_threshold": self.threshold},
        )

    def take(self, changes: list[Change]) -> None:
        """Each type goes from raised to resolved and back, and what a hand resolved is over first."""
        for change in changes:
            kind = change.alert.type
            assert (change.end is None) is (change.kind in (Kind.RAISED, Kind.UPDATED))
            if change.kind is Kind.FORGOTTEN:
                self.by_hand.remove(kind)
                continue
            assert (kind in self.active) is (change.kind is not Kind.RAISED)
            assert kind not in self.by_hand
            if change.kind is Kind.RESOLVED:
                del self.active[kind]
            else:
                since = self.active[kind][1] if kind in self.active else self.now
                self.active[kind] = (change.alert, since)
        assert self.alerts.active == {kind: alert for kind, (alert, _) in self.active.items()}
        assert set(self.alerts.hidden) == self.by_hand

    def evaluate(self) -> None:
        self.take(self.alerts.evaluate(self.now))
        assert self.alerts.evaluate(self.now) == []
        assert self.alerts.next_change_at(self.now) > self.now

    @rule(ends=st.tuples(reasons, reasons, reasons), duration=st.sampled_from([0.1, 2.5]))
    def run(self, ends: tuple[Reason | None, ...], duration: float) -> None:
        admission = self.breaker.begin_run(self.operations, self.now)
        for operation in admission.order:
            if admission.admit(operation, self.now):
                result = outcome(operation, ends[DEFAULT.index(operation)], duration)
                admission.observe(result, self.now)
                self.alerts.observe(result, self.now)
            for change in self.breaker.take_transitions():
                self.alerts.breaker(change)
        admission.end()
        self.evaluate()

    @rule(ends=st.tuples(reasons, reasons, reasons), times=st.integers(3, 25))
    def go_on(self, ends: tuple[Reason | None, ...], times: int) -> None:
        for _ in range(times):
            self.run(ends, 0.1)
            self.sleep(30.0)

    @rule(seconds=st.sampled_from([1.0, 9.5, 30.0, 60.0, 299.0, 1000.0]))
    def sleep(self, seconds: float) -> None:
        """Nothing is said before it is due, however often it is asked."""
        end = self.now + seconds
        while (at := self.alerts.next_change_at(self.now)) <= end:
            assert self.alerts.evaluate((self.now + at) / 2) == []
            self.now = at
            self.evaluate()
        assert self.alerts.evaluate(end) == []
        self.now = end

    @rule(kind=st.sampled_from(list(AlertType)))
    def resolve(self, kind: AlertType) -> None:
        change = self.alerts.resolve(kind)
        assert (change is None) is (kind not in self.active)
        if change is not None:
            assert (change.kind, change.end) == (Kind.RESOLVED, End.BY_HAND)
            del self.active[kind]
            self.by_hand.add(kind)
            self.evaluate()

    @rule(
        operations=st.sampled_from([(PUT,), (PUT, GET), DEFAULT]), threshold=st.sampled_from([0.1, 0.2, 0.9])
    )
    def configure(self, operations: tuple[Operation, ...], threshold: float) -> None:
        self.operations, self.threshold = operations, threshold
        self.take(self.alerts.configure(self.settings, self.now))
        self.evaluate()

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        self.on_failure = on
        self.take(self.alerts.configure(self.settings, self.now))
        assert on or not set(self.active) - {RECOVERED}
        self.evaluate()

    @rule()
    def restart(self) -> None:
        kept = [Kept(kind, self.now - since, alert.message) for kind, (alert, since) in self.active.items()]
        kept += [Kept(kind, 0.0, "resolved by hand", by_hand=True) for kind in sorted(self.by_hand)]
        self.alerts = TargetAlerts(self.settings, self.now)
        self.alerts.restore(kept, self.breaker.status(self.now).state, self.now)
        assert set(self.alerts.active) == set(self.active)
        self.active = {kind: (self.alerts.active[kind], since) for kind, (_, since) in self.active.items()}
        self.evaluate()

    @invariant()
    def nothing_else_is_active(self) -> None:
        assert RECOVERED not in self.active or not {OPEN, ERRORS, DEGRADED} & set(self.active)

    def teardown(self) -> None:
        """Once all works again, all is resolved, and then it costs nothing."""
        if not hasattr(self, "alerts"):
            return
        for _ in range(25):
            self.run((None, None, None), 0.1)
            self.sleep(30.0)
        assert not self.active or set(self.active) == {RECOVERED}
        self.sleep(300.0)
        assert self.active == {}
        assert self.alerts.next_change_at(self.now) == math.inf


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnySequence = Machine.TestCase


# --- the outages of R2 ---


def outage(
    rng: random.Random, shares: Collection[tuple[float, Collection[Operation], float]], rise: float
) -> Storage:
    """`shares` are until when which operations fail, how often; the first rises for `rise` seconds."""

    def storage(operation: Operation, now: float) -> tuple[Reason | None, float]:
        if now < BEGIN:
            return None, 0.1
        for until, operations, share in shares:
            if now < until and operation in operations:
                grown = min(1.0, (now - BEGIN) / rise) if rise else 1.0
                return (Reason.SERVER, 0.2) if rng.random() < share * grown else (None, 0.1)
        return None, 0.1

    return storage


def first(site: Site, kind: AlertType) -> float:
    return min(at for each, at in site.told(Kind.RAISED) if each is kind)


def first_failure(site: Site, storage: Storage, until: float) -> float:
    failures: list[float] = []

    def heard(operation: Operation, now: float) -> tuple[Reason | None, float]:
        reason, duration = storage(operation, now)
        if reason is not None:
            failures.append(now)
        return reason, duration

    site.probe(heard, until)
    return failures[0]


@pytest.mark.parametrize("seed", range(20))
def test_the_outage_of_2025_02_06(seed: int) -> None:
    """All fails for 59 minutes, then under 1% for 23."""
    end, rest = BEGIN + 59 * MINUTE, BEGIN + 82 * MINUTE
    site = Site(target())
    storage = outage(random.Random(seed), [(end, DEFAULT, 1.0), (rest, DEFAULT, 0.008)], 0)
    failed = first_failure(site, storage, rest)
    assert first(site, DEGRADED) - failed <= 60
    assert first(site, OPEN) - failed <= 90
    pages = [(kind, at) for kind, at in site.told(Kind.RAISED) if kind in PAGES]
    assert sorted(kind for kind, _ in pages) == [OPEN, ERRORS]
    resolved = [at for kind, at in site.told(Kind.RESOLVED) if kind in PAGES]
    assert max(resolved) - end <= 300
    site.probe(working, site.now + 900)
    assert site.alerts.active == {}


@pytest.mark.parametrize("seed", range(20))
def test_the_outage_of_2025_03_21(seed: int) -> None:
    """All writes and 35% of reads fail for 67 minutes, rising for the first five."""
    end = BEGIN + 67 * MINUTE
    rng = random.Random(seed)
    writes, reads = outage(rng, [(end, (PUT, DELETE), 1.0)], 300), outage(rng, [(end, (GET,), 0.35)], 300)
    site = Site(target())

    def storage(operation: Operation, now: float) -> tuple[Reason | None, float]:
        return (reads if operation is GET else writes)(operation, now)

    site.probe(storage, end)
    # It may be PUT alone that opens the breaker, and then nothing else is tried.
    assert min(at for _, at in site.told(Kind.RAISED)) - BEGIN <= 300
    assert first(site, OPEN) - BEGIN <= 480
    assert OPEN in site.alerts.active
    site.probe(working, end + 300)
    assert set(site.alerts.active) <= {RECOVERED}
    site.probe(working, end + 900)
    assert site.alerts.active == {}


# --- and when nothing is amiss ---


@pytest.mark.parametrize("breaker", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_day_pages_nobody(seed: int, breaker: bool) -> None:
    """0.1% random errors, p99 at 1.5 s at the daily peak, a blip of 10 s just when a run begins."""
    rng = random.Random(seed)
    blip = START + 30 * rng.randrange(2000)
    site = Site(target(breaker={"enabled": breaker}))

    def storage(operation: Operation, now: float) -> tuple[Reason | None, float]:
        if blip <= now < blip + 10:
            return Reason.CONNECT, 0.05
        wave = 0.75 + 0.25 * math.sin(2 * math.pi * now / DAY)
        duration = wave * rng.lognormvariate(math.log(0.2), 0.866)
        return (Reason.SERVER if rng.random() < 0.001 else None), duration

    site.probe(storage, START + DAY)
    kinds = {kind for kind, _ in site.told(Kind.RAISED)}
    assert DEGRADED in kinds, "the blip was none"
    assert not kinds & set(PAGES)
    assert set(site.alerts.active) <= {RECOVERED}
