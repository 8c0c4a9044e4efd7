"""The dashboard of the exporter itself: whether its figures can be trusted, and what it uses."""

from grafana_foundation_sdk.builders import dashboard

from grafana import frame
from grafana.frame import row
from grafana.panels import (
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    YES_OR_NO,
    Panel,
    Query,
    bars,
    lines,
    number,
)
from grafana.promql import JOB, PACE
from grafana.tables import Column, of_targets

INSTANCE = f'{JOB},instance=~"$instance"'
BY_INSTANCE = "{{instance}}"

LATE = ((None, "green"), (0.1, "orange"), (1, "red"))


def exporter() -> dashboard.Dashboard:
    board = frame.new(
        "r2-exporter",
        "R2: Exporter itself",
        "Whether the exporter keeps its schedule, its history and its promises, and what it uses.",
        frame.job("r2_exporter_build_info"),
        frame.instances(),
    )
    row(board, "Now", 4, *((4, panel) for panel in _now()))
    row(board, "", 7, (24, _instances()))
    row(board, "Probing", 8, (12, _lag()), (12, _lateness()), (12, _in_flight()), (12, _operations()))
    row(board, "", 8, (12, _skipped()), (12, _leftovers()))
    row(board, "History", 8, (8, _queue()), (8, _written()), (8, _size()))
    row(board, "Notifications", 8, (8, _sent()), (8, _not_sent()), (8, _sending()))
    row(board, "Process", 8, (8, _processor()), (8, _memory()), (8, _files()))
    row(board, "Scraping", 8, (12, _scrape_time()), (12, _scrape_size()))
    return board


def of(metric: str) -> str:
    return f"{metric}{{{INSTANCE}}}"


def _now() -> list[Panel]:
    return [
        number(
            "Exporters down",
            "Exporters that Prometheus could not scrape.",
            Query(f"count({of('up')} == 0) or 0 * count({of('up')})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Targets",
            "Targets that are configured.",
            Query(f"count(count by (target) ({of('r2_target_info')}))"),
            unit="short",
        ),
        number(
            "Configuration loaded",
            "Whether the last load of the configuration succeeded, on every exporter.",
            Query(f"min({of('r2_exporter_config_last_reload_successful')})"),
            steps=ONE_IS_GOOD,
            names=YES_OR_NO,
        ),
        number(
            "History writes",
            "Whether results reach the history's file on every exporter; if not, they wait in memory.",
            Query(f"min({of('r2_exporter_history_up')})"),
            steps=ONE_IS_GOOD,
            names=YES_OR_NO,
        ),
        number(
            "Event loop lag",
            "Largest delay in the last minute. If this is not small, do not trust the durations.",
            Query(f"max({of('r2_exporter_event_loop_lag_seconds')})"),
            unit="s",
            steps=LATE,
        ),
        number(
            "Largest lateness",
            "How long after it was due the latest run of the last minute started.",
            Query(f"max({of('r2_exporter_schedule_lateness_max_seconds')})"),
            unit="s",
            steps=LATE,
        ),
    ]


def _instances() -> Panel:
    started = f"time() - {of('process_start_time_seconds')}"
    loaded = f"time() - {of('r2_exporter_config_last_reload_success_timestamp_seconds')}"
    return of_targets(
        "Exporters",
        "One line for each exporter: its version, how long it runs and how old its configuration is.",
        [
            Column("Runs", f"max by (instance, version) ({of('r2_exporter_build_info')})", hidden=True),
            Column("Up for", f"max by (instance) ({started})", "s", decimals=0),
            Column("Configured for", f"max by (instance) ({loaded})", "s", decimals=0),
            Column(
                "Configuration loaded",
                f"min by (instance) ({of('r2_exporter_config_last_reload_successful')})",
                names=YES_OR_NO,
            ),
            Column("History writes", f"min by (instance) ({of('r2_exporter_history_up')})", names=YES_OR_NO),
            Column("Targets", f"count by (instance) ({of('r2_target_info')})", "short", decimals=0),
        ],
        labels=("instance", "version"),
        sort="Instance",
        links={},
    )


def _lag() -> Panel:
    return lines(
        "Event loop lag",
        "Largest delay of the event loop in the last minute, which every duration may hold as well.",
        Query(f"max by (instance) ({of('r2_exporter_event_loop_lag_seconds')})", BY_INSTANCE),
        unit="s",
        steps=LATE,
    )


def _lateness() -> Panel:
    buckets = of("r2_exporter_schedule_lateness_seconds_bucket")
    late = f"sum by (le) (rate({buckets}[{PACE}]))"
    return lines(
        "Schedule lateness",
        "How long after they were due runs started.",
        Query(f"histogram_quantile(0.5, {late})", "p50"),
        Query(f"histogram_quantile(0.99, {late})", "p99"),
        Query(f"max({of('r2_exporter_schedule_lateness_max_seconds')})", "largest of the last minute"),
        unit="s",
        steps=LATE,
    )


def _in_flight() -> Panel:
    return lines(
        "Probes in flight",
        "Operations being probed at the time of the scrape.",
        Query(f"sum by (instance) ({of('r2_exporter_probes_in_flight')})", BY_INSTANCE),
        unit="short",
    )


def _operations() -> Panel:
    return lines(
        "Operations sent",
        "Operations a second, by result.",
        Query(f"sum by (result) (rate({of('r2_probes_total')}[{PACE}]))", "{{result}}"),
        unit="ops",
    )


def _skipped() -> Panel:
    return bars(
        "Operations not sent",
        "Due, but not sent. Overruns mean that the interval is too short, or too few probes may run at once.",
        Query(f"sum by (reason) (increase({of('r2_probes_skipped_total')}[{PACE}]))", "{{reason}}"),
    )


def _leftovers() -> Panel:
    return bars(
        "Tidying up and reconnecting",
        "Objects removed after a failed run, by result; objects of earlier runs that the hourly sweep "
        "deleted; kept connections that were found closed.",
        Query(f"sum by (result) (increase({of('r2_probe_cleanups_total')}[{PACE}]))", "cleanup: {{result}}"),
        Query(f"sum(increase({of('r2_leftover_objects_deleted_total')}[{PACE}]))", "swept"),
        Query(f"sum(increase({of('r2_probe_reconnects_total')}[{PACE}]))", "reconnected"),
    )


def _queue() -> Panel:
    return lines(
        "Results that wait",
        "Results that are not in the history's file yet. It grows while the disk takes nothing.",
        Query(f"max by (instance) ({of('r2_exporter_history_queue_length')})", BY_INSTANCE),
        unit="short",
    )


def _written() -> Panel:
    written = of("r2_exporter_history_written_total")
    dropped = of("r2_exporter_history_dropped_total")
    unlogged = of("r2_exporter_log_lines_lost_total")
    return lines(
        "Results written and dropped",
        "Results and events a second; what was dropped is missing in the history for good. And lines of the "
        "log that nobody took.",
        Query(f"sum(rate({written}[{PACE}]))", "written"),
        Query(f"sum(rate({dropped}[{PACE}]))", "dropped"),
        Query(f"sum(rate({unlogged}[{PACE}]))", "log lines lost"),
        unit="ops",
    )


def _size() -> Panel:
    return lines(
        "Size of the history",
        "The file and its write-ahead log.",
        Query(f"max by (instance) ({of('r2_exporter_history_size_bytes')})", BY_INSTANCE),
        unit="bytes",
        calcs=("lastNotNull",),
    )


def _sent() -> Panel:
    sent = of("r2_exporter_notifications_sent_total")
    return bars(
        "Alerts sent",
        "Alerts that each member of Alertmanager took, where the exporter pushes them itself.",
        Query(f"sum by (alertmanager) (increase({sent}[{PACE}]))", "{{alertmanager}}"),
    )


def _not_sent() -> Panel:
    errors = of("r2_exporter_notifications_errors_total")
    dropped = of("r2_exporter_notifications_dropped_total")
    return bars(
        "Alerts not sent",
        "Those that failed are sent again, those that were refused are not.",
        Query(f"sum by (reason) (increase({errors}[{PACE}]))", "failed: {{reason}}"),
        Query(f"sum(increase({dropped}[{PACE}]))", "refused"),
    )


def _sending() -> Panel:
    buckets = of("r2_exporter_notifications_latency_seconds_bucket")
    return lines(
        "Time to send alerts",
        "99 of 100 times, sending alerts to a member of Alertmanager took at most this long.",
        Query(
            f"histogram_quantile(0.99, sum by (alertmanager, le) (rate({buckets}[{PACE}])))",
            "{{alertmanager}}",
        ),
        unit="s",
        steps=((None, "green"), (5, "orange"), (10, "red")),
    )


def _processor() -> Panel:
    return lines(
        "Processor",
        "Seconds of processor time a second, and the part of it that one thread spends on the history.",
        Query(f"sum by (instance) (rate({of('process_cpu_seconds_total')}[{PACE}]))", BY_INSTANCE),
        Query(f"sum(rate({of('r2_exporter_history_write_seconds_total')}[{PACE}]))", "history"),
        unit="percentunit",
    )


def _memory() -> Panel:
    return lines(
        "Memory",
        "Resident memory of the process.",
        Query(f"max by (instance) ({of('process_resident_memory_bytes')})", BY_INSTANCE),
        unit="bytes",
    )


def _files() -> Panel:
    return lines(
        "Open files and connections",
        "Open file descriptors, and how many there may be.",
        Query(f"max by (instance) ({of('process_open_fds')})", BY_INSTANCE),
        Query(f"min({of('process_max_fds')})", "limit"),
        unit="short",
        dashed="limit",
    )


def _scrape_time() -> Panel:
    return lines(
        "Scrape duration",
        "How long Prometheus waited for the metrics.",
        Query(f"max by (instance) ({of('scrape_duration_seconds')})", BY_INSTANCE),
        unit="s",
    )


def _scrape_size() -> Panel:
    return lines(
        "Samples a scrape",
        "How many series the exporter has.",
        Query(f"max by (instance) ({of('scrape_samples_scraped')})", BY_INSTANCE),
        unit="short",
    )
