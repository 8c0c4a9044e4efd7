"""What came of a soak, figure by figure."""

from collections.abc import Iterator

from tests.faults.watch import SCRAPE_SECONDS, told_of_alerts
from tests.soak.figures import HOUR, MEBIBYTE, Figure, bad_lines, more, slope, slow_steps
from tests.soak.soak import Soaked

FLAT = 4.0
"""MiB an hour by which memory may seem to grow, where there is an hour to see it in."""
LONG = 1800.0
"""Seconds from which on a slope says something: before, windows and caches are still filling."""
FILLING = 24.0
"""MiB that a shorter run may add."""

LONGEST_LINE = 16 << 10
"""Characters of a line of the log: where most that collect logs cut it."""

GARBAGE = 20_000
"""Objects that may wait for the collector: some megabytes."""


def figures(soaked: Soaked) -> Iterator[Figure]:
    plan, soak, page = soaked.plan, soaked.soak, soaked.page
    first, last, collected = soak.calms[0], soak.calms[-1], soak.collected
    assert collected is not None
    long = plan.seconds >= LONG
    performed = page.samples("r2_probes_total")
    yield Figure("seed", plan.seed)
    yield Figure("seconds of trouble", round(soak.troubled))
    yield Figure("operations a second", performed / soak.troubled, least=plan.rate if long else None)
    yield Figure("operations that failed", page.samples("r2_probes_total", result="failure"), least=1)
    yield Figure("operations in the history, less those counted", soaked.results - performed, 0, 0)
    yield Figure("results that the history dropped", page.samples("r2_exporter_history_dropped_total"), 0)
    yield Figure("faults", soaked.storage["faults"])
    yield Figure("kinds of faults that were met, by operation", soaked.storage["kinds"])
    yield Figure("alerts raised", told_of_alerts(soak.exporter.lines).total(), least=1)
    yield Figure("alerts raised, but not in the history, or the other way", misheld(soaked), 0)
    yield Figure("breaker transitions", page.samples("r2_circuit_breaker_transitions_total"))
    scrapes = sorted(soak.scraper.seconds) or [0.0]
    yield Figure("scrapes", len(soak.scraper.seconds))
    yield Figure("counters on a page", soak.scraper.lines)
    most = SCRAPE_SECONDS if long and not plan.dev else None
    yield Figure(
        "seconds within which 99 of 100 scrapes were answered", scrapes[len(scrapes) * 99 // 100], most
    )
    yield Figure("slowest scrape, seconds", scrapes[-1])
    yield Figure("API calls", soak.caller.answers.total())
    yield Figure(f"slowest API call, seconds ({soak.caller.slowest[1]})", soak.caller.slowest[0])
    yield Figure("reloads", soak.reloads, least=1)
    growth, step = slope(soak.samples)
    yield Figure("anonymous memory at the end, MiB", soak.samples[-1].memory / MEBIBYTE)
    yield Figure("slope of memory, MiB an hour", growth / MEBIBYTE, FLAT if long else None)
    late, _ = slope(soak.samples[len(soak.samples) // 2 :])
    yield Figure("slope of its second half, MiB an hour", late / MEBIBYTE)
    yield Figure("last quarter's median less the first's, MiB", step / MEBIBYTE, FLAT if long else FILLING)
    more_in_use, more_free = last.in_use - first.in_use, last.free - first.free
    yield Figure("memory in use at the first calm, MiB", first.in_use / MEBIBYTE)
    yield Figure("MiB in use more at the last", more_in_use / MEBIBYTE, FLAT if long else FILLING)
    yield Figure("MiB free, but kept, more at the last", more_free / MEBIBYTE)
    yield Figure("descriptors at the first calm", first.descriptors)
    yield Figure("descriptors more at the last", last.descriptors - first.descriptors, soak.may_open)
    yield Figure("tasks at the first calm", first.all_tasks)
    yield Figure(f"tasks more at the last {more(first.tasks, last.tasks) or ''}", grown(soaked), 0)
    yield Figure("most threads", max(sample.threads for sample in soak.samples), soak.may_run)
    yield Figure("objects at the first calm", first.objects)
    yield Figure("objects more at the last", last.objects - first.objects)
    yield Figure("objects that were garbage at the end", last.objects - collected.objects, GARBAGE)
    yield Figure("log lines", len(soak.exporter.lines))
    yield Figure("characters of the longest", max(map(len, soak.exporter.lines)), LONGEST_LINE)
    yield Figure("log lines that should not be", len(bad_lines(soak.exporter.lines)), 0)
    slow = slow_steps(soak.exporter.lines)
    yield Figure("steps of the loop that asyncio calls slow", len(slow))
    yield Figure("slowest of them, seconds", max(slow, default=0.0))


def misheld(soaked: Soaked) -> int:
    told = told_of_alerts(soaked.soak.exporter.lines)
    return (told - soaked.alerts).total() + (soaked.alerts - told).total()


def grown(soaked: Soaked) -> int:
    return sum(more(soaked.soak.calms[0].tasks, soaked.soak.calms[-1].tasks).values())


def remarks(soaked: Soaked) -> Iterator[str]:
    """What helps to see why a figure is what it is."""
    soak = soaked.soak
    yield f"more objects: {more(soak.calms[0].types, soak.calms[-1].types)}"
    yield f"answers: {dict(soak.caller.answers)}"
    yield f"storage: {soaked.storage}"
    yield f"hours of samples: {len(soak.samples) * soaked.plan.sample_every / HOUR:.2f}"
    yield f"the history and the last page disagree: {soaked.disagreement or 'no'}"
    for line in bad_lines(soak.exporter.lines)[:20]:
        yield f"should not be: {line}"
