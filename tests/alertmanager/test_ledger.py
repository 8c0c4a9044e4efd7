"""What is sent when: examples, and what holds whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.alertmanager.ledger import BATCH, Ledger, Pace
from exporter.alertmanager.pushed import Pushed
from tests.alertmanager.rig import STARTED, alert

PACE = Pace(interval=60, lifetime=240, keep_resolved=300, first_retry=1, longest_retry=30)


def test_an_alert_is_due_at_once_and_again_every_interval() -> None:
    ledger = Ledger(PACE)
    assert (ledger.next_due(), ledger.take_due(0)) == (None, ())
    ledger.put(alert(), 10)
    assert ledger.next_due() == 10
    assert ledger.take_due(10) == ledger.pending() == (alert(),)
    ledger.accepted([alert()], 11)
    assert (ledger.next_due(), ledger.take_due(70.9), ledger.pending()) == (71, (), ())
    assert ledger.take_due(71) == (alert(),)


def test_what_was_not_accepted_stays_due() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(), 0)
    assert ledger.take_due(0) == ledger.take_due(1000) == (alert(),)


def test_one_that_did_not_answer_hears_all_of_it_again() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert("a"), 0)
    ledger.put(alert("b"), 0)
    ledger.accepted([alert("a"), alert("b")], 0)
    ledger.put(alert("c"), 10)
    ledger.unreached(20)
    assert {each.labels["target"] for each in ledger.take_due(20)} == {"a", "b", "c"}
    assert ledger.pending() == (alert("c"),)


def test_the_same_again_is_no_news_but_a_change_is() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(), 0)
    ledger.accepted([alert()], 0)
    ledger.put(alert(), 1)
    assert (ledger.next_due(), ledger.pending()) == (60, ())
    changed = alert(reason="timeout")
    ledger.put(changed, 2)
    assert ledger.take_due(2) == ledger.pending() == (changed,)


def test_what_changes_while_it_is_sent_is_due_still() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(), 0)
    sent = ledger.take_due(0)
    ledger.put(alert(ends_at=STARTED), 1)
    ledger.accepted(sent, 2)
    assert ledger.take_due(2) == (alert(ends_at=STARTED),)


def test_a_resolved_alert_is_told_for_five_minutes_and_forgotten() -> None:
    ledger = Ledger(PACE)
    ended = alert(ends_at=STARTED)
    ledger.put(ended, 0)
    told = []
    for now in range(0, 1000, 10):
        if batch := ledger.take_due(now):
            told.append(now)
            ledger.accepted(batch, now)
    assert told == [0, 60, 120, 180, 240, 300]
    assert len(ledger) == 0


def test_a_resolved_alert_that_is_not_accepted_is_kept_for_as_long_as_it_takes() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(ends_at=STARTED), 0)
    assert ledger.take_due(10**6) == (alert(ends_at=STARTED),)
    ledger.accepted([alert(ends_at=STARTED)], 10**6)
    # Alertmanager may be restarted before it has told anybody.
    assert len(ledger) == 1
    ledger.accepted([alert(ends_at=STARTED)], 10**6 + PACE.keep_resolved)
    assert len(ledger) == 0


def test_a_new_outage_takes_the_place_of_the_old_one() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(ends_at=STARTED), 0)
    ledger.accepted([alert(ends_at=STARTED)], 0)
    ledger.put(alert(), 30)
    assert (ledger.take_due(30), len(ledger)) == ((alert(),), 1)


def test_what_is_due_soon_goes_along() -> None:
    ledger = Ledger(PACE)
    for second, name in ((0, "a"), (8, "b"), (20, "c")):
        ledger.put(alert(name), second)
        ledger.accepted([alert(name)], second)
    assert ledger.take_due(59) == ()
    assert ledger.take_due(60) == (alert("a"), alert("b"))


def test_a_request_holds_so_many_and_the_longest_due_first() -> None:
    ledger = Ledger(PACE)
    for number in range(BATCH + 1):
        ledger.put(alert(f"t{number}"), -number)
    batch = ledger.take_due(0)
    assert batch == tuple(alert(f"t{number}") for number in range(BATCH, 0, -1))
    ledger.accepted(batch, 0)
    assert ledger.take_due(0) == (alert("t0"),)


def test_what_is_refused_is_tried_ever_more_rarely_while_it_is_true() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(), 0)
    now, waits = 0.0, []
    for _ in range(9):
        assert not ledger.refused(alert(), now)
        due = ledger.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [120, 240, 480, 960, 1920, 3840, 3840, 3840, 3840]
    assert ledger.pending() == ()
    ledger.put(alert(reason="timeout"), now + 1)
    assert ledger.take_due(now + 1) == (alert(reason="timeout"),)


def test_a_resolved_alert_that_is_refused_is_dropped() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(ends_at=STARTED), 0)
    assert ledger.refused(alert(ends_at=STARTED), 0)
    assert not ledger.refused(alert(ends_at=STARTED), 0)
    assert (len(ledger), ledger.next_due()) == (0, None)


def test_a_refusal_of_what_has_changed_since_says_nothing() -> None:
    ledger = Ledger(PACE)
    ledger.put(alert(ends_at=STARTED), 1)
    assert not ledger.refused(alert(), 2)
    assert ledger.take_due(2) == (alert(ends_at=STARTED),)


def test_waits_between_tries_grow_to_a_bound() -> None:
    assert [PACE.retry_after(n, 1) for n in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [PACE.retry_after(n, 0) for n in (1, 2, 10_000)] == [0.5, 1, 15]


names = st.sampled_from(["a", "b", "c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("raise"), names, st.sampled_from(["timeout", "server"])),
        st.tuples(st.just("resolve"), names),
        st.tuples(st.just("wait"), st.integers(0, 200)),
        st.tuples(st.sampled_from(["accept", "fail", "refuse"])),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_the_last_word_is_told_and_little_is_kept(steps: list[tuple[object, ...]]) -> None:
    ledger, now = Ledger(PACE), 0.0
    latest: dict[object, Pushed] = {}
    believed: dict[object, Pushed] = {}
    for kind, *details in steps:
        match kind, details:
            case "raise", [name, reason]:
                latest[name] = alert(str(name), reason=str(reason))
                ledger.put(latest[name], now)
            case "resolve", [name]:
                latest[name] = alert(str(name), ends_at=STARTED)
                ledger.put(latest[name], now)
            case "wait", [int(seconds)]:
                now += seconds
            case "accept", _:
                batch = ledger.take_due(now)
                believed |= {each.labels["target"]: each for each in batch}
                ledger.accepted(batch, now)
            case "fail", _:
                ledger.unreached(now)
            case "refuse", _:
                for each in ledger.take_due(now):
                    if ledger.refused(each, now):
                        believed[each.labels["target"]] = each  # nothing more can be done
        assert len(ledger) <= len(latest)
    for _ in range(100):  # from now on all is well
        batch = ledger.take_due(now)
        believed |= {each.labels["target"]: each for each in batch}
        ledger.accepted(batch, now)
        now += 60
    assert believed == latest
    assert ledger.pending() == ()
    active = {name for name, each in latest.items() if not each.resolved}
    assert len(ledger) == len(active)
    due = ledger.next_due()
    assert (due is None) == (not active)
    assert due is None or due <= now + PACE.interval
