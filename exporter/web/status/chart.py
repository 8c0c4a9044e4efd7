"""Small charts as the path data of SVG: no styles, for the page's policy allows none inline. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.history.rollup import period_start
from exporter.history.spark import Hour, whole
from exporter.web.status.wording import latency, percent

HOURS = 24
STEP = 5
BARS_FLOOR, BARS_HEIGHT = 20.0, 18.0
LINE_WIDTH, LINE_FLOOR, LINE_HEIGHT = 160.0, 22.0, 19.0
HOUR = 3600


@dataclass(frozen=True, slots=True)
class DayChart:
    """Hour by hour: a bar as high as operations took on average, and below it whether they succeeded."""

    bars: str
    fine: str
    some: str
    down: str
    unknown: str
    says: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """Each result of one operation: a line through those that succeeded, a mark for each that failed."""

    line: str
    failed: str
    says: str


def day_chart(hours: Sequence[Hour], now: float) -> DayChart:
    """The last 24 hours; those with nothing due stay empty."""
    first = period_start("hour", now) - (HOURS - 1) * HOUR
    known = {hour.started_at: hour for hour in hours}
    slowest = max((hour.mean or 0.0 for hour in hours), default=0.0)
    bars, lanes = "", {"fine": "", "some": "", "down": "", "unknown": ""}
    for number in range(HOURS):
        hour, x = known.get(first + number * HOUR), number * STEP + 2
        lanes[_lane(hour)] += f"M{number * STEP} 25.5h{STEP - 1}"
        if hour is not None and hour.mean is not None and slowest:
            bars += f"M{x} {BARS_FLOOR:g}v{-max(1.0, BARS_HEIGHT * hour.mean / slowest):.1f}"
    return DayChart(bars=bars, **lanes, says=_day_says(hours, slowest))


def line_chart(points: Sequence[tuple[float, float, bool]], now: float) -> LineChart:
    """Of time (Unix seconds), duration and success of each, oldest first."""
    if not points:
        return LineChart("", "", "no result yet")
    start = points[0][0]
    width = max(now - start, 1.0)
    highest = max((took for _, took, success in points if success), default=0.0)
    line, failed, pen = "", "", "M"
    for at, took, success in points:
        x = max(0.0, min(LINE_WIDTH, (at - start) / width * LINE_WIDTH))
        if success:
            line += f"{pen}{x:.1f} {LINE_FLOOR - LINE_HEIGHT * (took / highest if highest else 0.0):.1f}"
            pen = "L"
        else:
            failed += f"M{x:.1f} 24v-6"
            pen = "M"
    failures = sum(not success for _, _, success in points)
    says = f"{len(points)} results, {failures} failed"
    return LineChart(line, failed, f"{says}, the slowest took {latency(highest)}" if highest else says)


def phase_bar(phases: Mapping[str, float], width: float = 240.0) -> list[tuple[str, float, float, float]]:
    """Name, seconds, where it begins and how wide it is drawn, of each phase in its order."""
    total, at, found = sum(phases.values()), 0.0, []
    for name, seconds in phases.items():
        wide = seconds / total * width if total else 0.0
        found.append((name, seconds, round(at, 1), round(wide, 1)))
        at += wide
    return found


def _lane(hour: Hour | None) -> str:
    share = hour.availability if hour is not None else None
    if share is None:
        return "unknown"
    return "fine" if share == 1 else "some" if share > 0.5 else "down"


def _day_says(hours: Sequence[Hour], slowest: float) -> str:
    if not hours:
        return "Nothing was probed in the last 24 hours"
    peak = f", slowest hour {latency(slowest)} on average" if slowest else ""
    return f"Last 24 hours: {percent(whole(hours).availability)} succeeded{peak}"
