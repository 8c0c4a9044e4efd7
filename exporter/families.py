"""The metric families of probing: names, labels, help texts and bucket edges."""

from exporter.buckets import DURATION_BUCKETS, LATENESS_BUCKETS, PHASE_BUCKETS
from exporter.exposition import Registry


class Families:
    """Every family, registered in the order of the page."""

    def __init__(self, registry: Registry) -> None:
        self._targets(registry)
        self._probes(registry)
        self._breakers(registry)
        self._alerts(registry)
        self._history(registry)
        self._exporter(registry)

    def _targets(self, registry: Registry) -> None:
        self.target_info = registry.gauge(
            "r2_target_info",
            "Where a target is, with the labels its configuration gives it; always 1.",
            ("target", "bucket", "endpoint", "region"),
        )
        self.target_up = registry.gauge(
            "r2_target_up",
            "Whether no operation failed at its latest run and the circuit breaker is closed (1) or not (0).",
            ("target",),
        )
        self.threshold = registry.gauge(
            "r2_config_threshold",
            "The setting in force that alerting rules compare with; the name tells its unit.",
            ("target", "name"),
        )
        self.billed = registry.counter(
            "r2_billed_operations_total",
            "Operations sent to the storage, by the class R2 bills them in.",
            ("target", "class"),
        )
        self.cleanups = registry.counter(
            "r2_probe_cleanups_total",
            "Attempts to delete an object a probe wrote, apart from the probed DELETE.",
            ("target", "result"),
        )
        self.leftovers = registry.counter(
            "r2_leftover_objects_deleted_total",
            "Objects left behind by earlier runs that a sweep deleted.",
            ("target",),
        )
        self.certificate_expiry = registry.gauge(
            "r2_tls_certificate_expiry_timestamp_seconds",
            "When the endpoint's TLS certificate expires, in Unix time.",
            ("target",),
        )
        self.clock_skew = registry.gauge(
            "r2_target_clock_skew_seconds",
            "How far this machine's clock is ahead of the storage's, from the Date of its last answer.",
            ("target",),
        )

    def _probes(self, registry: Registry) -> None:
        self.duration = registry.histogram(
            "r2_probe_duration_seconds",
            "Time an operation took, failures and timeouts included.",
            ("target", "operation"),
            buckets=DURATION_BUCKETS,
        )
        self.phase = registry.histogram(
            "r2_probe_phase_duration_seconds",
            "Time each phase of an operation took, where the phase happened.",
            ("target", "operation", "phase"),
            buckets=PHASE_BUCKETS,
        )
        self.probes = registry.counter(
            "r2_probes_total", "Operations sent, by result.", ("target", "operation", "result")
        )
        self.errors = registry.counter(
            "r2_probe_errors_total", "Failed operations, by reason.", ("target", "operation", "reason")
        )
        self.skipped = registry.counter(
            "r2_probes_skipped_total",
            "Operations that were due but not sent, by reason.",
            ("target", "operation", "reason"),
        )
        self.reconnects = registry.counter(
            "r2_probe_reconnects_total",
            "Operations whose kept connection was found closed and was opened anew.",
            ("target", "operation"),
        )
        self.success = registry.gauge(
            "r2_probe_success",
            "Whether the last operation succeeded (1) or failed (0).",
            ("target", "operation"),
        )
        self.failure_info = registry.gauge(
            "r2_probe_failure_info",
            "Why an operation fails, while it does; always 1. The request is the first that failed so.",
            ("target", "operation", "reason", "s3_code", "request_id"),
        )
        self.last_run = registry.gauge(
            "r2_probe_last_run_timestamp_seconds",
            "When the last operation started, in Unix time.",
            ("target", "operation"),
        )

    def _breakers(self, registry: Registry) -> None:
        self.breaker_state = registry.gauge(
            "r2_circuit_breaker_state",
            "Whether a target's circuit breaker is in this state (1) or not (0); all 0 where it is disabled.",
            ("target", "state"),
        )
        self.breaker_transitions = registry.counter(
            "r2_circuit_breaker_transitions_total",
            "Changes of a circuit breaker's state.",
            ("target", "from_state", "to_state"),
        )
        self.breaker_failures = registry.gauge(
            "r2_circuit_breaker_failure_ratio",
            "Share of failed operations in the monitoring window; NaN without any.",
            ("target",),
        )
        self.breaker_slow_calls = registry.gauge(
            "r2_circuit_breaker_slow_call_ratio",
            "Share of slow operations in the monitoring window; NaN without any.",
            ("target",),
        )
        self.breaker_ewma = registry.gauge(
            "r2_circuit_breaker_response_time_ewma_seconds",
            "Exponential moving average of the duration of operations; NaN without any of late.",
            ("target",),
        )

    def _alerts(self, registry: Registry) -> None:
        self.alert_active = registry.gauge(
            "r2_alert_active",
            "Whether the exporter's own alert of this type is active (1) or not (0).",
            ("target", "type", "severity"),
        )
        self.notifications_sent = registry.counter(
            "r2_exporter_notifications_sent_total",
            "Alerts sent to a member of Alertmanager, each as often as it was sent.",
            ("alertmanager",),
        )
        self.notification_errors = registry.counter(
            "r2_exporter_notifications_errors_total",
            "Alerts that a member of Alertmanager did not take, by reason; they are sent again.",
            ("alertmanager", "reason"),
        )
        self.notifications_dropped = registry.counter(
            "r2_exporter_notifications_dropped_total",
            "Alerts that a member of Alertmanager refused and that are not sent again.",
            ("alertmanager",),
        )
        self.notifications_waiting = registry.gauge(
            "r2_exporter_notifications_queue_length",
            "Alerts that a member of Alertmanager has yet to hear.",
            ("alertmanager",),
        )
        self.notification_latency = registry.histogram(
            "r2_exporter_notifications_latency_seconds",
            "Time that sending alerts to a member of Alertmanager took.",
            ("alertmanager",),
            buckets=DURATION_BUCKETS,
        )

    def _history(self, registry: Registry) -> None:
        self.history_up = registry.gauge(
            "r2_exporter_history_up", "Whether results reach the history's file (1) or wait in memory (0)."
        )
        self.history_queue = registry.gauge(
            "r2_exporter_history_queue_length", "Results that are not in the history's file yet."
        )
        self.history_size = registry.gauge(
            "r2_exporter_history_size_bytes", "Size of the history's file and its write-ahead log."
        )
        self.history_written = registry.counter(
            "r2_exporter_history_written_total", "Results and events written to the history."
        )
        self.history_dropped = registry.counter(
            "r2_exporter_history_dropped_total", "Results that the history could not take and did not keep."
        )
        self.history_seconds = registry.counter(
            "r2_exporter_history_write_seconds_total", "Time spent writing the history, in its own thread."
        )

    def _exporter(self, registry: Registry) -> None:
        self.build_info = registry.gauge(
            "r2_exporter_build_info", "Which build of the exporter runs; always 1."
        )
        self.shard_ordinal = registry.gauge(
            "r2_exporter_shard_ordinal", "Which of the exporters that share the targets this is, from 0."
        )
        self.total_shards = registry.gauge(
            "r2_exporter_total_shards", "How many exporters share the targets; 1 for one on its own."
        )
        self.loop_lag = registry.gauge(
            "r2_exporter_event_loop_lag_seconds", "Largest delay of the event loop in the last minute."
        )
        self.lateness = registry.histogram(
            "r2_exporter_schedule_lateness_seconds",
            "How long after it was due each run of probes started.",
            buckets=LATENESS_BUCKETS,
        )
        self.lateness_max = registry.gauge(
            "r2_exporter_schedule_lateness_max_seconds",
            "Largest lateness of a run of probes in the last minute.",
        )
        self.log_lost = registry.counter(
            "r2_exporter_log_lines_lost_total",
            "Lines of the log that could not be written: nobody took them, or the disk did not.",
        )
        self.in_flight = registry.gauge("r2_exporter_probes_in_flight", "Operations being probed right now.")
        self.reload_successful = registry.gauge(
            "r2_exporter_config_last_reload_successful",
            "Whether the last attempt to load the configuration succeeded (1) or failed (0).",
        )
        self.reload_timestamp = registry.gauge(
            "r2_exporter_config_last_reload_success_timestamp_seconds",
            "When the configuration was last loaded successfully, in Unix time.",
        )
