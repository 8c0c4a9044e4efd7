"""Series that an exporter may show, in promtool's notation.

A sample is one scrape, 15 s after the one before: `0+2x40` rises by 2 forty times, `1x40` stays, `_x8` is
not there.
"""

HERE = 'job="r2",instance="a:9977"'
THRESHOLDS = {
    "error_rate": 0.2,
    "slow_response_seconds": 2,
    "check_interval_seconds": 30,
    "recovery_timeout_seconds": 60,
    "failure_threshold": 3,
    "alert_on_failure": 1,
    "alert_on_recovery": 1,
    "slo_objective": 0.999,
    "monthly_budget_dollars": 10,
}
SKIPPED = "r2_probes_skipped_total"
TRANSITIONS = "r2_circuit_breaker_transitions_total"
LONG = 2000
"""Samples of what stays as it is: over 8 hours."""


def known(**thresholds: float) -> dict[str, str]:
    """A target with its thresholds, its breaker closed and nothing skipped."""
    found = {
        f'r2_config_threshold{{target="media",name="{name}",{HERE}}}': f"{value}x{LONG}"
        for name, value in (THRESHOLDS | thresholds).items()
    }
    for operation in ("put", "get", "delete"):
        found[f'{SKIPPED}{{target="media",operation="{operation}",reason="circuit_open",{HERE}}}'] = (
            f"0x{LONG}"
        )
    return found | breaker(f"0x{LONG}") | {f'r2_target_up{{target="media",{HERE}}}': f"1x{LONG}"}


def breaker(opened: str, failed_trials: str = f"0x{LONG}", closings: str = f"0x{LONG}") -> dict[str, str]:
    """`opened` is 1 while it is open. It is closed where that is 0."""
    closed = opened.translate(str.maketrans("01", "10")) if opened != f"0x{LONG}" else f"1x{LONG}"
    return {
        f'r2_circuit_breaker_state{{target="media",state="open",{HERE}}}': opened,
        f'r2_circuit_breaker_state{{target="media",state="half_open",{HERE}}}': f"0x{LONG}",
        f'r2_circuit_breaker_state{{target="media",state="closed",{HERE}}}': closed,
        f'{TRANSITIONS}{{target="media",from_state="half_open",to_state="open",{HERE}}}': failed_trials,
        f'{TRANSITIONS}{{target="media",from_state="half_open",to_state="closed",{HERE}}}': closings,
    }


def latest(**by_operation: str) -> dict[str, str]:
    """Whether each operation's latest run succeeded."""
    return {
        f'r2_probe_success{{target="media",operation="{operation}",{HERE}}}': values
        for operation, values in by_operation.items()
    }


def counted(success: str, failure: str) -> dict[str, str]:
    """Operations by result. Three are probed; those of `put` stand for all."""
    found = {}
    for operation in ("put", "get", "delete"):
        for result, values in (("success", success), ("failure", failure)):
            name = f'r2_probes_total{{target="media",operation="{operation}",result="{result}",{HERE}}}'
            found[name] = values if operation == "put" else f"0x{LONG}"
    return found


def slow(share: int) -> dict[str, str]:
    """Of a hundred operations a scrape so many take between 2 and 3 s."""
    name = f'r2_probe_duration_seconds_bucket{{target="media",operation="put",{HERE}'
    return {
        f'{name},le="1"}}': f"0+{100 - share}x{LONG}",
        f'{name},le="2"}}': f"0+{100 - share}x{LONG}",
        f'{name},le="3"}}': f"0+100x{LONG}",
        f'{name},le="+Inf"}}': f"0+100x{LONG}",
    }


def one(name: str, values: str, **labels: str) -> dict[str, str]:
    """One series of the target."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return {f'{name}{{target="media"{more},{HERE}}}': values}


def exporter(name: str, values: str) -> dict[str, str]:
    """One series of the exporter itself."""
    return {f"{name}{{{HERE}}}": values}
