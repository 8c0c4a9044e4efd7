"""What an exporter may show, and whether an alert fires on it: each alert on both sides of its edge."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.rules.shown import LONG, SKIPPED, breaker, counted, exporter, known, latest, one, slow

Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """Whether `alert` fires `seconds` after the first scrape."""

    alert: str
    what: str
    seconds: int
    fires: bool
    series: Series = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=lambda: {"target": "media"})

    @property
    def id(self) -> str:
        return f"{self.alert}: {self.what}: {'fires' if self.fires else 'silent'}"


def circuit_breaker_open() -> Iterator[Case]:
    name = "R2CircuitBreakerOpen"
    # Open from 300 s on, and the first trial fails at 360 s.
    failing = known() | breaker("0x19 1x100", "0x23 1x100")
    yield Case(name, "the first trial has not gone out yet", 350, False, failing)
    yield Case(name, "the first trial failed", 360, True, failing)
    waiting = known() | breaker("0x19 1x100")
    yield Case(name, "open for 80 s without a trial", 380, False, waiting)
    yield Case(name, "open for 100 s without a trial", 400, True, waiting)
    blip = known() | breaker("0x19 1x4 0x100", closings="0x24 1x100")
    yield Case(name, "an interruption, at its end", 370, False, blip)
    yield Case(name, "an interruption, after it", 400, False, blip)
    earlier = known() | breaker("0x19 1x7 0x4 1x100", "0x23 1x100", "0x27 1x100")
    yield Case(name, "the trial that failed was before it closed", 500, False, earlier)
    fresh = known() | breaker("1x100")
    yield Case(name, "open when first seen, for 60 s", 60, False, fresh)
    yield Case(name, "open when first seen, for 100 s", 100, True, fresh)
    over = known() | breaker("0x19 1x10 0x100", "0x23 1x100", "0x30 1x100")
    yield Case(name, "it has closed", 470, False, over)
    gone = known() | breaker("0x19 1x10 stale _x3 1x100", "0x23 1x6 stale _x3 0x100")
    yield Case(name, "a restart while it is open, exporter away", 490, True, gone)
    yield Case(name, "a restart while it is open, exporter back", 530, True, gone)
    disabled = known() | {key: f"0x{LONG}" for key in breaker("0x1") if "state=" in key}
    yield Case(name, "disabled", 400, False, disabled)
    yield Case(name, "failures are not to be told", 400, False, known(alert_on_failure=0) | breaker("1x100"))


def service_degraded() -> Iterator[Case]:
    name = "R2ServiceDegraded"
    two = latest(put="1x9 0x100", get="1x100", delete="1x9 0x100")
    yield Case(name, "two operations fail, before", 140, False, known() | two)
    yield Case(name, "two operations fail", 150, True, known() | two)
    alone = latest(put="1x9 0x100", get="1x100", delete="1x100")
    yield Case(name, "one operation fails", 200, False, known() | alone)
    in_turn = latest(put="1x9 0x1 1x100", get="1x100", delete="1x11 0x100")
    yield Case(name, "one failed and another fails", 200, True, known() | in_turn)
    yield Case(name, "one failed long ago and another fails", 300, False, known() | in_turn)
    over = latest(put="1x9 0x1 1x100", get="1x100", delete="1x9 0x1 1x100")
    yield Case(name, "two failed, and both work", 190, False, known() | over)
    yield Case(name, "failures are not to be told", 200, False, known(alert_on_failure=0) | two)


def high_error_rate() -> Iterator[Case]:
    name = "R2HighErrorRate"
    above = known() | counted(f"0+79x{LONG}", f"0+21x{LONG}")
    yield Case(name, "21% over 5 minutes", 360, True, above)
    yield Case(name, "21%, for less than a minute", 50, False, above)
    yield Case(name, "19% over 5 minutes", 360, False, known() | counted(f"0+81x{LONG}", f"0+19x{LONG}"))
    changed = known(error_rate=0.3) | counted(f"0+79x{LONG}", f"0+21x{LONG}")
    yield Case(name, "21% with a threshold of 30%", 360, False, changed)
    was = known() | counted(f"0+10x40 {10 * 41}+40x100", "0+30x40 1200x100")
    yield Case(name, "75%, 30 s ago", 630, True, was)
    yield Case(name, "75%, 150 s ago", 750, False, was)
    # Each 30 s one operation, of which every third fails: 10 in 5 minutes.
    few = known() | counted(
        "0 0 0 1 1 2 2 2 2 3 3 4 4 4 4 5 5 6 6 6 6 7 7 8 8 8 8 9 9", "0 1 1 1 1 1 1 2x5 3x5 4x5 5x9"
    )
    yield Case(name, "3 or 4 of 10", 390, True, few)
    two = known() | counted("0 0 0 1 1 2 2 3 3 4 4 5 5 6 6 7 7 7 7 7 7 7 7 7 7", "0x14 1 1 2x20")
    yield Case(name, "2 of 9", 330, False, two)
    closed = breaker(f"0x{LONG}", closings="0x39 1x100")
    yield Case(name, "before the breaker closed", 660, False, above | closed)
    yield Case(name, "again, since the breaker closed 4 minutes ago", 830, True, above | closed)
    seldom = known(check_interval_seconds=300) | counted(f"0+1x{LONG}", f"0+1x{LONG}")
    failing = latest(put=f"0x{LONG}", get=f"1x{LONG}", delete=f"1x{LONG}")
    yield Case(name, "seldom probed, half fail within an hour", 3600, True, seldom | failing)
    yield Case(
        name, "seldom probed, and works now", 3600, False, seldom | latest(put=f"1x{LONG}", get=f"1x{LONG}")
    )
    yield Case(
        name,
        "failures are not to be told",
        360,
        False,
        known(alert_on_failure=0) | counted(f"0+79x{LONG}", f"0+21x{LONG}"),
    )


def slow_response() -> Iterator[Case]:
    name = "R2SlowResponse"
    busy = counted(f"0+100x{LONG}", f"0x{LONG}")
    yield Case(name, "6% are slow", 420, True, known() | busy | slow(6))
    yield Case(name, "6%, for less than 2 minutes", 120, False, known() | busy | slow(6))
    yield Case(name, "4% are slow", 420, False, known() | busy | slow(4))
    yield Case(name, "under another threshold", 420, False, known(slow_response_seconds=3) | busy | slow(6))
    closed = breaker(f"0x{LONG}", closings="0x39 1x100")
    yield Case(name, "before the breaker closed", 780, False, known() | busy | slow(6) | closed)
    seldom = known(check_interval_seconds=300) | busy | slow(6)
    yield Case(name, "seldom probed", 3600, True, seldom)
    yield Case(name, "failures are not to be told", 420, False, known(alert_on_failure=0) | busy | slow(6))


def service_recovered() -> Iterator[Case]:
    name = "R2ServiceRecovered"
    over = latest(put="1x9 0x9 1x100", get="1x100", delete="1x9 0x9 1x100")
    yield Case(name, "while it is degraded", 280, False, known() | over)
    yield Case(name, "it works again", 310, True, known() | over)
    yield Case(name, "for 5 minutes", 590, True, known() | over)
    yield Case(name, "no longer", 610, False, known() | over)
    unseen = known() | latest(put="1x9 0x9 stale", delete="1x9 0x9 stale", get="1x100")
    unseen |= one("r2_target_up", "1x9 0x9 stale")
    yield Case(name, "nothing is known", 420, False, unseen)
    yield Case(name, "recovery is not to be told", 310, False, known(alert_on_recovery=0) | over)


def exporter_alerts() -> Iterator[Case]:
    place = {"job": "r2", "instance": "a:9977"}
    down = exporter("up", "1x19 0x1000") | exporter("r2_exporter_build_info", "1x19 stale")
    yield Case("R2ExporterDown", "down for less than 2 minutes", 400, False, down, place)
    yield Case("R2ExporterDown", "down for 2 minutes", 430, True, down, place)
    yield Case("R2ExporterDown", "down for 3 hours", 3 * 3600, True, down, place)
    other = exporter("up", "1x19 0x1000")
    yield Case("R2ExporterDown", "another program is down", 430, False, other, place)
    yield Case("R2ExporterAbsent", "down, and told so", 1000, False, down, {})
    gone = exporter("up", "1x19 stale") | exporter("r2_exporter_build_info", "1x19 stale")
    yield Case("R2ExporterAbsent", "gone for less than 10 minutes", 880, False, gone, {})
    yield Case("R2ExporterAbsent", "gone for 10 minutes", 900, True, gone, {})
    yield Case("R2ExporterAbsent", "Prometheus has just begun", 585, False, {}, {})
    yield Case("R2ExporterAbsent", "Prometheus has not seen one yet", 615, True, {}, {})
    up = exporter("r2_exporter_history_up", "1x19 0x1000")
    yield Case("R2HistoryNotWriting", "for less than 5 minutes", 590, False, up, place)
    yield Case("R2HistoryNotWriting", "for 5 minutes", 610, True, up, place)


def probes_missing() -> Iterator[Case]:
    name = "R2ProbesMissing"
    last = one("r2_probe_last_run_timestamp_seconds", f"100x{LONG}", operation="put")
    yield Case(name, "three intervals ago", 180, False, known() | last)
    yield Case(name, "three intervals ago, for less than a minute", 240, False, known() | last)
    yield Case(name, "three intervals ago, for a minute", 260, True, known() | last)
    yield Case(name, "with a longer interval", 260, False, known(check_interval_seconds=60) | last)
    yield Case(name, "the breaker is open", 260, False, known() | last | breaker("1x100"))
    stopped = one(SKIPPED, f"0x8 0+1x{LONG}", operation="put", reason="stopped")
    yield Case(name, "probing is stopped", 600, False, known() | last | stopped)
    seldom = known(check_interval_seconds=3600) | last
    yield Case(name, "seldom probed", 3 * 3600 + 200, True, seldom)
    once = one(SKIPPED, f"0x240 1x{LONG}", operation="put", reason="stopped")
    yield Case(name, "seldom probed, and stopped", 3 * 3600 + 200, False, seldom | once)


def housekeeping() -> Iterator[Case]:
    name = "R2TargetFlapping"
    four = one("r2_target_up", "1x9 0x9 1x9 0x9 1x9 0x9 1x9 0x9 1x200")
    three = one("r2_target_up", "1x9 0x9 1x9 0x9 1x9 0x9 1x200")
    yield Case(name, "four times down and up", 1260, True, known() | four)
    yield Case(name, "three times down and up", 1260, False, known() | three)
    yield Case(name, "no more for 10 minutes", 1860, False, known() | four)
    yield Case(name, "failures are not to be told", 1260, False, known(alert_on_failure=0) | four)
    name, days = "R2CertificateExpiresSoon", 86_400
    expiry = "r2_tls_certificate_expiry_timestamp_seconds"
    yield Case(name, "in just under 14 days", 1000, True, one(expiry, f"{14 * days}x{LONG}"))
    yield Case(name, "in just over 14 days", 1000, False, one(expiry, f"{14 * days + 1001}x{LONG}"))
    name, skew = "R2ClockSkew", "r2_target_clock_skew_seconds"
    yield Case(name, "61 s behind, for 5 minutes", 310, True, one(skew, f"-61x{LONG}"))
    yield Case(name, "61 s behind, for less", 290, False, one(skew, f"-61x{LONG}"))
    yield Case(name, "60 s ahead", 310, False, one(skew, f"60x{LONG}"))
    # 15.45 class A operations a scrape cost 12.01 dollars in 30 days, class B 0.96.
    name, billed = "R2ProbingBill", "r2_billed_operations_total"
    both = one(billed, f"0+15.45x{LONG}", **{"class": "A"}) | one(billed, f"0+15.45x{LONG}", **{"class": "B"})
    yield Case(name, "12.97 of 12.9 dollars", 7 * 3600, True, known(monthly_budget_dollars=12.9) | both)
    yield Case(
        name,
        "12.97 of 12.9 dollars, not for an hour",
        6 * 3600 + 900,
        False,
        known(monthly_budget_dollars=12.9) | both,
    )
    yield Case(name, "12.97 of 13.1 dollars", 7 * 3600, False, known(monthly_budget_dollars=13.1) | both)


def error_budget() -> Iterator[Case]:
    name = "R2ErrorBudgetBurnFast"
    # 1.5 operations a scrape are 3 each 30 s.
    yield Case(
        name,
        "5% of all operations, 180 s of them",
        5400,
        True,
        known() | counted(f"0+1.425x{LONG}", f"0+0.075x{LONG}"),
    )
    yield Case(
        name,
        "5% of all operations, 90 s of them",
        1800,
        False,
        known() | counted(f"0+1.425x{LONG}", f"0+0.075x{LONG}"),
    )
    yield Case(
        name, "1.5% for 6 hours", 21_600, True, known() | counted(f"0+1.4775x{LONG}", f"0+0.0225x{LONG}")
    )
    yield Case(
        name, "0.5% for 6 hours", 21_600, False, known() | counted(f"0+1.4925x{LONG}", f"0+0.0075x{LONG}")
    )
    yield Case(
        name,
        "another objective",
        5400,
        False,
        known(slo_objective=0.99) | counted(f"0+1.425x{LONG}", f"0+0.075x{LONG}"),
    )
    over = known() | counted(f"0+1.425x440 628.5+1.5x{LONG}", f"0+0.075x440 33x{LONG}")
    yield Case(name, "5% until 10 minutes ago", 7200, True, over)
    yield Case(name, "5% until 40 minutes ago", 9000, False, over)
    skipped = one(SKIPPED, f"0+0.075x{LONG}", operation="put", reason="circuit_open")
    yield Case(
        name,
        "what an open breaker skipped was down",
        5400,
        True,
        known() | counted(f"0+1.425x{LONG}", f"0x{LONG}") | skipped,
    )
    told = known() | counted(f"0+1.1x{LONG}", f"0+0.4x{LONG}")
    yield Case(name, "R2HighErrorRate has paged", 5400, False, told)
    yield Case(
        name,
        "failures are not to be told",
        5400,
        False,
        known(alert_on_failure=0) | counted(f"0+1.425x{LONG}", f"0+0.075x{LONG}"),
    )
    name = "R2ErrorBudgetBurnSlow"
    yield Case(name, "0.4% for hours", 7500, True, known() | counted(f"0+1.494x{LONG}", f"0+0.006x{LONG}"))
    yield Case(
        name,
        "0.4%, for less than an hour",
        3500,
        False,
        known() | counted(f"0+1.494x{LONG}", f"0+0.006x{LONG}"),
    )
    yield Case(
        name, "0.09% for hours", 21_600, False, known() | counted(f"0+1.49865x{LONG}", f"0+0.00135x{LONG}")
    )
    yield Case(name, "R2HighErrorRate has paged", 7500, False, told)
    yield Case(
        name,
        "failures are not to be told",
        7500,
        False,
        known(alert_on_failure=0) | counted(f"0+1.494x{LONG}", f"0+0.006x{LONG}"),
    )


CASES = tuple(
    case
    for each in (
        circuit_breaker_open,
        service_degraded,
        high_error_rate,
        slow_response,
        service_recovered,
        exporter_alerts,
        probes_missing,
        housekeeping,
        error_budget,
    )
    for case in each()
)
