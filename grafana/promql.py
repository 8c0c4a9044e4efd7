"""PromQL that several panels share: what is selected, and the figures made of it.

Ranges are Grafana's variables. What moves along a graph is a rate over `$__rate_interval`; what sums
up the time shown is an increase over `$__range`.
"""

from exporter.alerts.kinds import ALERT_NAMES

JOB = 'job=~"$job"'
TARGET = f'{JOB},target=~"$target"'
OPERATION = f'{TARGET},operation=~"$operation"'

PACE = "$__rate_interval"
SHOWN = "$__range"

CLASS_A_DOLLARS = 4.5e-6
CLASS_B_DOLLARS = 0.36e-6
"""R2's price of one operation, Standard storage (https://developers.cloudflare.com/r2/pricing/)."""

MONTH_SECONDS = 30 * 86400


def growth(counter: str, over: str, at: str = "") -> str:
    """How much a counter's series grew: per second at the pace of the moment, in all otherwise."""
    function = "rate" if over == PACE else "increase"
    return f"{function}({counter}[{over}]{at})"


def success_ratio(over: str, by: str = "target", matchers: str = OPERATION, at: str = "") -> str:
    """The share of due operations that succeeded; one that an open breaker withheld counts as failed."""
    good = growth(f'r2_probes_total{{{matchers},result="success"}}', over, at)
    sent = growth(f"r2_probes_total{{{matchers}}}", over, at)
    withheld = growth(f'r2_probes_skipped_total{{{matchers},reason="circuit_open"}}', over, at)
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} ({good}) / ({grouped} ({sent}) + {grouped} ({withheld}))"


def burn_rate(over: str) -> str:
    """How many times faster than allowed a target spends its error budget."""
    objective = f'max by (target) (r2_config_threshold{{{TARGET},name="slo_objective"}})'
    return f"(1 - {success_ratio(over, matchers=TARGET)}) / (1 - {objective})"


def budget_left(over: str) -> str:
    """The share of a target's error budget that is left; below 0 the objective is missed."""
    return f"1 - {burn_rate(over)}"


def quantile(q: float, over: str, by: str = "", at: str = "") -> str:
    """A quantile of how long operations took, in seconds."""
    buckets = growth(f"r2_probe_duration_seconds_bucket{{{OPERATION}}}", over, at)
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({buckets}))"


def bill(by: str = "") -> str:
    """Dollars that a month at the pace of the moment costs."""
    grouped = f"sum by ({by})" if by else "sum"
    a, b = (
        f'{grouped} (rate(r2_billed_operations_total{{{TARGET},class="{billing_class}"}}[{PACE}]))'
        for billing_class in "AB"
    )
    return f"{MONTH_SECONDS} * ({CLASS_A_DOLLARS * 1e6:g}e-6 * {a} + {CLASS_B_DOLLARS * 1e6:g}e-6 * {b})"


def threshold(name: str, by: str = "target") -> str:
    """A setting in force."""
    return f'max by ({by}) (r2_config_threshold{{{TARGET},name="{name}"}})'


def up() -> str:
    """Whether each target is up, for every exporter that probes it."""
    return f"min by (target) (r2_target_up{{{TARGET}}})"


def breaker_state() -> str:
    """Each target's breaker as a number: 0 disabled, 1 closed, 2 half open, 3 open."""
    states = " or ".join(
        f'{number} * r2_circuit_breaker_state{{{TARGET},state="{state}"}}'
        for number, state in enumerate(("closed", "half_open", "open"), start=1)
    )
    return f"max by (target) ({states})"


def alerts(*, good_news: bool = True) -> str:
    """The alerts that fire, told by the exporter, by Prometheus' rules or by both; 1 each.

    Good news is of severity info, such as that a service has recovered.
    """
    bad = "" if good_news else ',severity!="info"'
    own = f"r2_alert_active{{{TARGET}{bad}}} == 1"
    # The exporter's own have a type, and the rules of the same name have it too.
    for kind, name in ALERT_NAMES.items():
        own = f'label_replace({own}, "alertname", "{name}", "type", "{kind}")'
    rules = f'ALERTS{{alertname=~"R2.+",alertstate="firing",target=~"$target|"{bad}}}'
    return f"max by (target, alertname, severity) ({own} or {rules})"


def worst(expression: str, ranking: str) -> str:
    """The `$top` targets that rank highest over the time shown: the same ones along the whole graph."""
    return f"({expression}) and on (target) topk($top, {ranking})"


AT_END = " @ end()"
