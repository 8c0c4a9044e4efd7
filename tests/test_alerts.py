"""A target's alerts: each type at its edges, from raised to resolved."""

import math
from collections.abc import Mapping

import pytest

from exporter.alerts import (
    ALERT_NAMES,
    SEVERITIES,
    AlertType,
    Change,
    End,
    Kept,
    Kind,
    Severity,
    TargetAlerts,
)
from exporter.breaker import State
from exporter.outcome import Operation, Reason
from tests.alerting import DEFAULT, DELETE, GET, INTERVAL, LIST, PUT, START, outcome, target, transition

OPEN, ERRORS, SLOW, DEGRADED, RECOVERED = AlertType
NO_BREAKER = {"enabled": False}


def feed(
    alerts: TargetAlerts,
    now: float,
    bad: tuple[Operation, ...] = (),
    reason: Reason = Reason.SERVER,
    operations: tuple[Operation, ...] = DEFAULT,
    duration: float = 0.1,
) -> list[Change]:
    """A run in which `bad` fail, and what is said of it."""
    for operation in operations:
        alerts.observe(outcome(operation, reason if operation in bad else None, duration), now)
    return alerts.evaluate(now)


def what(changes: list[Change]) -> list[tuple[Kind, AlertType]]:
    return [(change.kind, change.alert.type) for change in changes]


def raised(*kinds: AlertType) -> list[tuple[Kind, AlertType]]:
    return [(Kind.RAISED, kind) for kind in kinds]


def resolved(*kinds: AlertType) -> list[tuple[Kind, AlertType]]:
    return [(Kind.RESOLVED, kind) for kind in kinds]


def follow(alerts: TargetAlerts, now: float, until: float) -> list[tuple[float, Kind, AlertType]]:
    """What is said as time passes, evaluated when it asks for it."""
    said = []
    while (at := alerts.next_change_at(now)) <= min(until, 1e9):
        now = at
        said += [(now, change.kind, change.alert.type) for change in alerts.evaluate(now)]
    return said


def degraded(now: float = START, **sections: Mapping[str, object]) -> TargetAlerts:
    """A target whose PUT and GET have just failed, and whose alert says so."""
    alerts = TargetAlerts(target(**sections), now)
    assert what(feed(alerts, now, (PUT, GET))) == raised(DEGRADED)
    return alerts


def test_each_type_has_a_name_a_severity_and_the_labels_of_its_rule() -> None:
    assert set(ALERT_NAMES) == set(SEVERITIES) == set(AlertType)
    assert [severity.label for severity in Severity] == ["info", "warning", "high", "critical"]
    alerts = degraded()
    assert alerts.active[DEGRADED].labels == {
        "alertname": "R2ServiceDegraded",
        "target": "media",
        "type": "service_degraded",
        "severity": "warning",
    }


# --- service_degraded and service_recovered ---


def test_one_failing_operation_is_no_degraded_service_and_two_are() -> None:
    alerts = TargetAlerts(target(), START)
    assert feed(alerts, START, (PUT,)) == []
    assert what(feed(alerts, START + 30, (PUT, DELETE))) == raised(DEGRADED)
    assert feed(alerts, START + 60, (PUT,)) == []
    assert what(feed(alerts, START + 90)) == [*resolved(DEGRADED), *raised(RECOVERED)]


@pytest.mark.parametrize(("later", "says"), [(119.9, raised(DEGRADED)), (120.0, [])])
def test_an_operation_that_works_again_counts_for_two_minutes(
    later: float, says: list[tuple[Kind, AlertType]]
) -> None:
    alerts = TargetAlerts(target(), START)
    feed(alerts, START, (PUT,))
    feed(alerts, START + 30)
    assert what(feed(alerts, START + 30 + later, (GET,))) == says


def test_recovery_is_news_for_five_minutes() -> None:
    alerts = degraded()
    feed(alerts, START + 30)
    assert set(alerts.active) == {RECOVERED}
    assert alerts.active[RECOVERED].message == "every operation works again, after 30 s of trouble"
    assert follow(alerts, START + 30, math.inf) == [(START + 330, Kind.RESOLVED, RECOVERED)]
    assert alerts.next_change_at(START + 400) == math.inf


def test_recovery_is_no_news_once_it_fails_again() -> None:
    alerts = degraded()
    feed(alerts, START + 30)
    assert what(feed(alerts, START + 60, (PUT, GET))) == [*raised(DEGRADED), *resolved(RECOVERED)]


# --- circuit_breaker_open ---


def test_an_open_breaker_is_told_after_90_seconds() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.breaker(transition(State.OPEN, START))
    assert alerts.evaluate(START + 89.9) == []
    assert what(alerts.evaluate(START + 90)) == raised(OPEN)
    assert alerts.evaluate(START + 91) == []


def test_an_open_breaker_is_told_at_once_when_a_trial_failed() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.breaker(transition(State.OPEN, START))
    alerts.breaker(transition(State.HALF_OPEN, START + 60, State.OPEN))
    assert alerts.evaluate(START + 60) == []
    alerts.breaker(transition(State.OPEN, START + 61, State.HALF_OPEN))
    assert what(alerts.evaluate(START + 61)) == raised(OPEN)
    alerts.breaker(transition(State.HALF_OPEN, START + 121, State.OPEN))
    assert alerts.evaluate(START + 121) == []
    alerts.breaker(transition(State.CLOSED, START + 122, State.HALF_OPEN))
    assert what(alerts.evaluate(START + 122)) == [*resolved(OPEN), *raised(RECOVERED)]


def test_each_opening_has_its_own_90_seconds() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.breaker(transition(State.OPEN, START))
    alerts.breaker(transition(State.HALF_OPEN, START + 60, State.OPEN))
    alerts.breaker(transition(State.CLOSED, START + 60, State.HALF_OPEN))
    alerts.breaker(transition(State.OPEN, START + 80))
    assert follow(alerts, START + 80, START + 170) == [(START + 170, Kind.RAISED, OPEN)]
    alerts.breaker(transition(State.HALF_OPEN, START + 180, State.OPEN))
    alerts.breaker(transition(State.OPEN, START + 181, State.HALF_OPEN))
    alerts.breaker(transition(State.CLOSED, START + 240, State.HALF_OPEN))
    assert resolved(OPEN)[0] in what(alerts.evaluate(START + 240))
    alerts.breaker(transition(State.OPEN, START + 250))
    assert OPEN not in {change.alert.type for change in alerts.evaluate(START + 250)}


def test_a_breaker_that_is_disabled_is_not_open() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.breaker(transition(State.OPEN, START))
    alerts.evaluate(START + 90)
    alerts.breaker(transition(State.DISABLED, START + 100, State.OPEN))
    assert resolved(OPEN)[0] in what(alerts.evaluate(START + 100))


def test_a_breaker_closed_by_hand_is_no_recovery_before_the_storage_works() -> None:
    alerts = TargetAlerts(target(), START)
    feed(alerts, START, (PUT,))
    alerts.breaker(transition(State.OPEN, START))
    alerts.evaluate(START + 90)
    alerts.breaker(transition(State.CLOSED, START + 100, State.OPEN))
    assert what(alerts.evaluate(START + 100)) == resolved(OPEN)
    assert what(feed(alerts, START + 120)) == raised(RECOVERED)


# --- high_error_rate and slow_response ---


def failing_runs(bad: int, of: int, **sections: Mapping[str, object]) -> tuple[TargetAlerts, float]:
    """GET runs each 30 s, the last `bad` of them failed; and the time of the last."""
    probe = {"operations": ["get"], "interval": INTERVAL}
    alerts = TargetAlerts(target(probe=probe, **sections), START)
    now = START
    for number in range(of):
        now = START + number * INTERVAL
        feed(alerts, now, (GET,) if number >= of - bad else (), operations=(GET,))
    return alerts, now


@pytest.mark.parametrize(
    ("bad", "of", "threshold", "is_raised"),
    [
        (3, 10, 0.29, True),
        (3, 10, 0.3, False),  # not above the threshold
        (2, 10, 0.1, False),  # not three failures
        (3, 9, 0.1, False),  # not ten operations
    ],
)
def test_a_high_error_rate_needs_a_share_ten_operations_and_three_failures(
    bad: int, of: int, threshold: float, is_raised: bool
) -> None:
    alerts, now = failing_runs(bad, of, alerts={"error_rate_threshold": threshold}, breaker=NO_BREAKER)
    assert alerts.active == {}
    assert alerts.evaluate(now + 59.9) == []
    assert what(alerts.evaluate(now + 60)) == (raised(ERRORS) if is_raised else [])


def test_a_high_error_rate_must_still_be_so_in_the_last_two_minutes() -> None:
    alerts = TargetAlerts(target(breaker=NO_BREAKER, alerts={"error_rate_threshold": 0.05}), START)
    said = what(feed(alerts, START, DEFAULT))
    for number in range(1, 12):  # from the fourth run on it is over 5% of ten operations, for five minutes
        said += what(feed(alerts, START + number * INTERVAL))
    assert ERRORS not in {kind for _, kind in said}


def test_a_high_error_rate_ends_at_half_of_the_threshold() -> None:
    alerts, now = failing_runs(3, 10, breaker=NO_BREAKER)
    assert what(alerts.evaluate(now + 60)) == raised(ERRORS)
    seen = []
    for _ in range(12):
        now += INTERVAL
        alerts.observe(outcome(GET), now)
        counts = alerts._conditions.tally.long(now)
        seen.append((counts.failure_ratio <= 0.1, ERRORS in {c.alert.type for c in alerts.evaluate(now)}))
    assert [over for over, _ in seen].index(True) == [told for _, told in seen].index(True)
    assert seen[0] == (False, False)
    assert ERRORS not in alerts.active


def test_it_is_quiet_at_a_rate_about_the_threshold() -> None:
    """Every fifth operation fails, at a threshold of 20% with other failures now and then: one alert."""
    alerts = TargetAlerts(target(breaker=NO_BREAKER, probe={"operations": ["get"], "interval": 5}), START)
    said = []
    for number in range(2000):
        now = START + 5 * number
        bad = number % 5 == 0 or number % 31 == 0
        said += what(feed(alerts, now, (GET,) if bad else (), operations=(GET,)))
    assert [each for each in said if each[1] is ERRORS] == raised(ERRORS)


def test_slow_intervals_have_a_longer_window() -> None:
    probe = {"operations": ["put", "get"], "interval": 3600}
    alerts = TargetAlerts(target(breaker=NO_BREAKER, probe=probe), START)
    for number in range(8):
        now = START + number * 3600
        said = feed(alerts, now, (PUT,) if number >= 4 else (), operations=(PUT, GET))
    assert what(said) == raised(ERRORS)


def test_what_was_before_the_breaker_closed_does_not_count() -> None:
    alerts = TargetAlerts(target(), START)
    for number in range(10):
        feed(alerts, START + number * 2, DEFAULT)
    alerts.breaker(transition(State.OPEN, START + 20))
    alerts.breaker(transition(State.HALF_OPEN, START + 50, State.OPEN))
    alerts.breaker(transition(State.CLOSED, START + 51, State.HALF_OPEN))
    feed(alerts, START + 51)
    assert ERRORS not in {kind for _, _, kind in follow(alerts, START + 51, START + 1000)}


@pytest.mark.parametrize("observed_first", [True, False])
def test_a_high_error_rate_is_over_when_all_works_after_the_breaker_closed(observed_first: bool) -> None:
    alerts = TargetAlerts(target(), START)
    for number in range(40):
        feed(alerts, START + number * 2, DEFAULT)
    assert ERRORS in alerts.active
    closed = transition(State.CLOSED, START + 141, State.HALF_OPEN)
    alerts.breaker(transition(State.OPEN, START + 80))
    alerts.breaker(transition(State.HALF_OPEN, START + 140, State.OPEN))
    if observed_first:
        alerts.observe(outcome(PUT), START + 140.9)
        alerts.breaker(closed)
    else:
        alerts.breaker(closed)
        alerts.observe(outcome(PUT), START + 141)
    assert ERRORS not in {change.alert.type for change in alerts.evaluate(START + 141)}
    said = what(feed(alerts, START + 142, operations=(GET, DELETE)))
    assert {*resolved(ERRORS, DEGRADED), *raised(RECOVERED)} == set(said)


@pytest.mark.parametrize(
    ("slow", "seconds", "says"),
    [
        (20, 2.01, [(START + 390, (Kind.RAISED, SLOW))]),  # the tenth run is at 270 s
        (20, 2.0, []),  # not above the threshold
        (2, 2.01, []),
    ],
)
def test_slow_responses_must_be_enough_and_last_two_minutes(
    slow: int, seconds: float, says: list[tuple[float, tuple[Kind, AlertType]]]
) -> None:
    alerts = TargetAlerts(target(probe={"operations": ["get"]}), START)
    said = []
    for number in range(20):
        now = START + number * INTERVAL
        is_slow = slow == 20 or 10 <= number < 10 + slow
        said += [
            (now, each)
            for each in what(feed(alerts, now, operations=(GET,), duration=seconds if is_slow else 0.1))
        ]
    assert said == says


def test_one_slow_run_is_no_slow_response() -> None:
    """3 of 30 operations are over 5%, but in two minutes they have left the short window."""
    alerts = TargetAlerts(target(), START)
    said = [
        feed(alerts, START + number * INTERVAL, duration=5 if number == 10 else 0.1) for number in range(30)
    ]
    assert said == [[]] * 30


def test_slow_responses_are_told_and_end_when_none_is_left() -> None:
    alerts = TargetAlerts(target(), START)
    said = []
    for number in range(14):
        now = START + number * INTERVAL
        said += [(now, each) for each in what(feed(alerts, now, duration=3.0))]
    assert said == [(START + 210, (Kind.RAISED, SLOW))]  # ten operations at 90 s, and two minutes
    assert alerts.active[SLOW].message.endswith("in 5 min took over 2 s: put, get, delete")
    assert alerts.active[SLOW].operations == DEFAULT
    for number in range(14, 26):
        now = START + number * INTERVAL
        said += [(now, each) for each in what(feed(alerts, now))]
    (_, (at, last)) = said
    assert last == (Kind.RESOLVED, SLOW)
    assert START + 13 * INTERVAL + 290 <= at <= START + 13 * INTERVAL + 300


# --- what an alert says ---


def test_an_alert_says_which_operations_fail_and_why_and_nothing_a_storage_wrote_freely() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.observe(outcome(PUT, Reason.TIMEOUT), START)
    alerts.observe(outcome(GET, Reason.SERVER, request_id="8f-1", s3_code="InternalError"), START)
    alerts.observe(outcome(DELETE, Reason.SERVER, request_id="8f-2", s3_code="Internal Error: AKIA"), START)
    alert = alerts.evaluate(START)[0].alert
    assert alert.message == (
        "3 of 3 operations fail: put, get, delete; server (InternalError), request id 8f-1"
    )
    assert (alert.reason, alert.s3_code, alert.request_id) == (Reason.SERVER, "InternalError", "8f-1")
    assert "AKIA" not in repr(alerts.active)


def test_an_alert_is_updated_when_operations_or_reason_change_and_once_a_minute_at_most() -> None:
    alerts = degraded()
    assert feed(alerts, START + 30, (PUT, GET)) == []
    assert feed(alerts, START + 40, DEFAULT) == []
    (later,) = alerts.evaluate(START + 60)
    assert (later.kind, later.alert.operations) == (Kind.UPDATED, DEFAULT)
    assert alerts.active[DEGRADED] == later.alert
    assert feed(alerts, START + 130, DEFAULT) == []
    (why,) = feed(alerts, START + 160, DEFAULT, Reason.TIMEOUT)
    assert (why.kind, why.alert.reason) == (Kind.UPDATED, Reason.TIMEOUT)


def test_the_first_request_id_of_failures_in_a_row_stands_for_all() -> None:
    alerts = TargetAlerts(target(), START)
    for number in range(5):
        for operation in (PUT, GET):
            alerts.observe(
                outcome(operation, Reason.SERVER, request_id=f"{operation}-{number}"), START + number
            )
    assert alerts.evaluate(START + 5)[0].alert.request_id == "put-0"


def test_what_failed_before_the_recovery_is_not_told_again() -> None:
    alerts = degraded()
    feed(alerts, START + 30)
    assert set(alerts.active) == {RECOVERED}
    assert feed(alerts, START + 60, (DELETE,)) == []
    [raised_anew, _] = feed(alerts, START + 90, (PUT, DELETE), Reason.CONNECT)
    assert raised_anew.alert.message == "2 of 3 operations fail: put, delete; connect"


def test_the_reason_told_is_that_of_operations_that_fail_still() -> None:
    alerts = TargetAlerts(target(), START)
    alerts.observe(outcome(PUT, Reason.CLIENT, request_id="old", s3_code="NoSuchBucket"), START)
    feed(alerts, START + 30)
    alerts.observe(outcome(DELETE, Reason.CONNECT), START + 60)
    [change] = alerts.evaluate(START + 60)
    assert change.alert.operations == (PUT, DELETE)
    assert (change.alert.reason, change.alert.request_id) == (Reason.CONNECT, "")


# --- by hand ---


def test_an_alert_resolved_by_hand_does_not_come_back_while_its_condition_lasts() -> None:
    alerts = degraded()
    over = alerts.resolve(DEGRADED)
    assert over is not None
    assert (over.kind, over.end) == (Kind.RESOLVED, End.BY_HAND)
    assert alerts.active == {}
    assert alerts.resolve(DEGRADED) is None
    for number in range(1, 20):
        assert DEGRADED not in {change.alert.type for change in feed(alerts, START + number * 30, (PUT, GET))}
    feed(alerts, START + 600)
    assert DEGRADED in {change.alert.type for change in feed(alerts, START + 630, (PUT, GET))}


def test_what_is_not_active_cannot_be_resolved() -> None:
    assert TargetAlerts(target(), START).resolve(OPEN) is None


def test_recovery_resolved_by_hand_is_over() -> None:
    alerts = degraded()
    feed(alerts, START + 30)
    assert alerts.resolve(RECOVERED) is not None
    assert alerts.active == {}
    assert follow(alerts, START + 30, math.inf) == [(START + 330, Kind.FORGOTTEN, RECOVERED)]
    assert feed(alerts, START + 600) == []


# --- settings ---


def test_alerts_on_failure_can_be_turned_off_and_on() -> None:
    alerts = degraded()
    off = alerts.configure(target(alerts={"on_failure": False}), START + 1)
    assert [(change.alert.type, change.end) for change in off] == [(DEGRADED, End.SETTINGS)]
    assert feed(alerts, START + 30, DEFAULT) == []
    assert alerts.configure(target(), START + 31) == []
    assert what(feed(alerts, START + 60, DEFAULT)) == raised(DEGRADED)


def test_alerts_turned_off_have_not_recovered() -> None:
    alerts = degraded()
    alerts.configure(target(alerts={"on_failure": False}), START + 1)
    assert feed(alerts, START + 30) == []


def test_one_resolved_by_hand_stays_so_while_alerts_are_off_and_on() -> None:
    alerts = degraded()
    alerts.resolve(DEGRADED)
    assert alerts.configure(target(alerts={"on_failure": False}), START + 1) == []
    alerts.configure(target(), START + 2)
    assert feed(alerts, START + 30, DEFAULT) == []


def test_alerts_on_recovery_can_be_turned_off() -> None:
    alerts = degraded()
    feed(alerts, START + 30)
    assert what(alerts.configure(target(alerts={"on_recovery": False}), START + 31)) == resolved(RECOVERED)
    feed(alerts, START + 60, (PUT, GET))
    assert what(feed(alerts, START + 90)) == resolved(DEGRADED)


def test_an_operation_no_longer_probed_no_longer_counts() -> None:
    alerts = TargetAlerts(target(), START)
    feed(alerts, START, (GET, DELETE))
    (over,) = alerts.configure(target(probe={"operations": ["put"]}), START + 1)
    assert (over.alert.type, over.end) == (DEGRADED, End.SETTINGS)
    alerts.observe(outcome(GET, Reason.SERVER), START + 2)
    alerts.observe(outcome(LIST, Reason.SERVER), START + 2)
    assert alerts.evaluate(START + 2) == []


def test_a_higher_threshold_ends_an_alert_that_it_would_not_raise() -> None:
    alerts, now = failing_runs(5, 11, breaker=NO_BREAKER)
    alerts.evaluate(now + 60)
    probe = {"operations": ["get"]}
    assert (
        alerts.configure(
            target(probe=probe, breaker=NO_BREAKER, alerts={"error_rate_threshold": 0.3}), now + 61
        )
        == []
    )
    (over,) = alerts.configure(
        target(probe=probe, breaker=NO_BREAKER, alerts={"error_rate_threshold": 0.6}), now + 62
    )
    assert (over.alert.type, over.end) == (ERRORS, End.SETTINGS)


def test_another_slow_threshold_counts_anew() -> None:
    alerts = TargetAlerts(target(), START)
    for number in range(10):
        feed(alerts, START + number * INTERVAL, duration=3.0)
    assert SLOW in alerts.active
    assert alerts.configure(target(alerts={"slow_response_threshold": 4}), START + 280) == []
    said = [feed(alerts, START + number * INTERVAL, duration=3.0) for number in range(10, 14)]
    assert what(said[-1]) == resolved(SLOW)  # at the tenth operation
    assert said[:-1] == [[], [], []]


def test_the_alerts_of_a_target_that_is_gone_are_over() -> None:
    alerts = degraded()
    alerts.breaker(transition(State.OPEN, START))
    alerts.evaluate(START + 90)
    ends = alerts.close()
    assert {(change.alert.type, change.end) for change in ends} == {
        (DEGRADED, End.TARGET_GONE),
        (OPEN, End.TARGET_GONE),
    }
    assert alerts.active == {}


# --- after a restart ---


def restored(*kept: Kept, state: State = State.CLOSED, now: float = START) -> TargetAlerts:
    alerts = TargetAlerts(target(), now)
    alerts.restore(kept, state, now)
    return alerts


def test_an_alert_that_was_active_stays_so_until_every_operation_has_succeeded() -> None:
    alerts = restored(Kept(DEGRADED, 600.0, "2 of 3 operations fail: put, get; server"))
    assert alerts.active[DEGRADED].message == "2 of 3 operations fail: put, get; server"
    assert alerts.evaluate(START) == []
    assert feed(alerts, START + 20, operations=(PUT, GET)) == []
    (over, news) = feed(alerts, START + 21, operations=(DELETE,))
    assert what([over, news]) == [*resolved(DEGRADED), *raised(RECOVERED)]
    assert news.alert.message == "every operation works again, after 10 min of trouble"


def test_an_alert_kept_over_a_restart_is_updated_once_all_is_known() -> None:
    alerts = restored(Kept(DEGRADED, 600.0, "3 of 3 operations fail: put, get, delete; timeout"))
    alerts.observe(outcome(PUT, Reason.SERVER), START)
    assert alerts.evaluate(START) == []
    assert what(feed(alerts, START + 1, (GET,), operations=(GET, DELETE))) == [(Kind.UPDATED, DEGRADED)]


def test_an_operation_that_nobody_asks_for_is_not_waited_for_forever() -> None:
    alerts = restored(Kept(DEGRADED, 0.0, "fail"))
    feed(alerts, START + 1, operations=(PUT,))
    assert follow(alerts, START + 1, START + 310) == [
        (START + 300, Kind.RESOLVED, DEGRADED),
        (START + 300, Kind.RAISED, RECOVERED),
    ]


def test_an_open_breaker_after_a_restart_is_not_told_again() -> None:
    alerts = restored(Kept(OPEN, 600.0, "open"), state=State.OPEN)
    assert follow(alerts, START, START + 400) == []
    alerts.breaker(transition(State.HALF_OPEN, START + 400, State.OPEN))
    alerts.breaker(transition(State.CLOSED, START + 401, State.HALF_OPEN))
    assert resolved(OPEN)[0] in what(feed(alerts, START + 401, operations=(PUT,)))


def test_a_breaker_that_is_closed_after_a_restart_proves_nothing() -> None:
    alerts = restored(Kept(OPEN, 600.0, "open"))
    assert feed(alerts, START, operations=(PUT, GET)) == []
    assert resolved(OPEN)[0] in what(feed(alerts, START + 1, operations=(DELETE,)))


def test_a_breaker_that_is_open_after_a_restart_and_was_not_told_is_told_in_90_seconds() -> None:
    alerts = restored(state=State.OPEN)
    assert follow(alerts, START, START + 200) == [(START + 90, Kind.RAISED, OPEN)]


def test_a_high_error_rate_stays_after_a_restart_until_ten_operations_say_otherwise() -> None:
    alerts = restored(Kept(ERRORS, 600.0, "many failed"))
    assert [what(feed(alerts, START + number * INTERVAL)) for number in range(3)] == [[], [], []]
    assert what(feed(alerts, START + 90)) == [*resolved(ERRORS), *raised(RECOVERED)]


def test_one_resolved_by_hand_before_a_restart_stays_so_and_recovers_silently() -> None:
    alerts = restored(Kept(DEGRADED, 600.0, "fail", by_hand=True))
    assert alerts.active == {}
    assert set(alerts.hidden) == {DEGRADED}
    assert feed(alerts, START, DEFAULT) == []
    assert what(feed(alerts, START + 30)) == [(Kind.FORGOTTEN, DEGRADED)]
    assert set(alerts.hidden) == set()
    assert what(feed(alerts, START + 60, DEFAULT)) == raised(DEGRADED)


def test_news_of_a_recovery_ends_after_a_restart_when_it_would_have() -> None:
    alerts = restored(Kept(RECOVERED, 100.0, "works again"))
    assert follow(alerts, START, math.inf) == [(START + 200, Kind.RESOLVED, RECOVERED)]
