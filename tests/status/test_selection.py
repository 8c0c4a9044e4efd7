"""Which targets are shown, whatever is asked."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from exporter.admission import TargetBreaker
from exporter.breaker import State
from exporter.config import TargetSettings
from exporter.outcome import Failure, Operation, Outcome, Reason
from exporter.web.api.health import Seen
from exporter.web.api.health_models import HealthStatus
from exporter.web.status.selection import OPENED, ORDER, ROWS, Asked, Judged, judge, key_of, select

OPERATIONS = (Operation.PUT, Operation.GET)
KINDS = st.sampled_from(["up", "down", "half", "new", "open"])


def seen(name: str, kind: str) -> Seen:
    settings = TargetSettings.model_validate(
        {
            "name": name,
            "endpoint": "https://s3.example.org",
            "bucket": "b",
            "probe": {"operations": ["put", "get"]},
        }
    )
    failed = {"up": (), "half": OPERATIONS[:1], "down": OPERATIONS, "open": OPERATIONS, "new": ()}[kind]
    latest = {
        each: Outcome(name, each, 0.0, 0.1, failure=Failure(Reason.SERVER, "x") if each in failed else None)
        for each in OPERATIONS
        if kind != "new"
    }
    breaker = TargetBreaker(settings.breaker, 0.0)
    admission = breaker.begin_run(OPERATIONS, 0.0)
    while kind == "open" and breaker.status(0.0).state is State.CLOSED:
        admission.admit(Operation.PUT, 0.0)
        admission.observe(Outcome(name, Operation.PUT, 0.0, 0.1, failure=Failure(Reason.SERVER, "x")), 0.0)
    return Seen(settings, latest, breaker.status(0.0))


def sites(kinds: Sequence[str]) -> list[Seen]:
    return [seen(f"t{number}", kind) for number, kind in enumerate(kinds)]


@given(st.lists(KINDS, min_size=1, max_size=130), st.sampled_from([None, *HealthStatus]))
def test_pages_hold_each_target_once_the_failing_ones_first(
    kinds: list[str], status: HealthStatus | None
) -> None:
    judged = judge(sites(kinds))
    pages = select(judged, Asked(status=status)).pages
    shown: list[Judged] = []
    for page in range(1, pages + 1):
        selection = select(judged, Asked(status=status, page=page))
        assert len(selection.shown) <= ROWS
        assert len(selection.opened) <= OPENED
        assert selection.opened <= {each.name for each in selection.shown}
        shown += selection.shown
    assert [ORDER.index(each.status) for each in shown] == sorted(ORDER.index(each.status) for each in shown)
    wanted = {each.name for each in judged if status in (None, each.status)}
    assert len(shown) == len(wanted)
    assert {each.name for each in shown} == wanted
    assert sum(selection.counts.values()) == len(kinds)


@given(st.dictionaries(st.sampled_from(["q", "state", "page"]), st.text()), st.lists(st.text()))
def test_any_address_shows_a_page(query: dict[str, str], opened: list[str]) -> None:
    selection = select(judge(sites(["down", "up"])), Asked.of(query, opened))
    assert 1 <= selection.page <= selection.pages
    assert sum(selection.counts.values()) == 2


@given(st.text())
def test_a_target_has_a_key_that_is_fit_for_an_id(name: str) -> None:
    assert key_of(name).isalnum()
    assert key_of(name) == key_of(name)


def test_the_reader_has_the_last_word_on_what_is_open() -> None:
    judged = judge(sites(["down", "up", "half"]))
    assert select(judged, Asked()).opened == {"t0", "t2"}
    assert select(judged, Asked.of({}, [""])).opened == set()
    assert select(judged, Asked.of({}, ["", key_of("t1")])).opened == {"t1"}


def test_statuses_are_those_of_the_api() -> None:
    judged = judge(sites(["up", "new", "half", "open", "down"]))
    assert [each.name for each in judged] == ["t3", "t4", "t2", "t1", "t0"]
