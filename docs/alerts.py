"""How to read each alert: tables are made from the rules, the words around them are ours."""

from collections.abc import Iterator
from dataclasses import dataclass

from docs.metrics import exporter_metrics
from docs.rules import Rule, alerting_rules, asks_for
from exporter.alerts import ALERT_NAMES

OWN = {name: kind.value for kind, name in ALERT_NAMES.items()}

HEAD = """\
# How to read an alert

The tables are made from [the rules](../rules/r2-exporter.yml) by `make generate`. What to ask Prometheus and what to do stands in
the runbook of each alert; here is what one needs to judge it. Times are at the defaults (interval 30 s, scrapes every
15 s); [scaling](scaling.md) and [cost](cost.md) say what a longer interval does to them.

## Severity

| severity | in JSON and SQLite | what it asks of you |
|---|---|---|
| `critical` | CRITICAL | wake somebody: the storage does not work |
| `high` | HIGH | wake somebody: part of it does not work, or nobody is watching |
| `warning` | MEDIUM | today: it may become worse, or is about to |
| `info` | LOW | nothing; it is news |

## Labels and annotations

`alertname`, `type` and `severity` are on every alert, and `target` on each that is about a target. Alerts about one exporter have
`job` and `instance` instead, and `R2ExporterAbsent` has none of these. There is no `instance` on a target's alert: two exporters,
or two Prometheus servers, that see the same target raise one.

| annotation | from the rules | pushed by the exporter |
|---|---|---|
| `summary` | which target, and what; fits a phone | the same, with the failing operations and the most frequent reason |
| `description` | on alerts of failing operations: each operation that fails at its latest run with its [reason](../README.md#why-it-failed), S3 code and request id, and the most frequent reason of 5 minutes. On others: the figures that matter there | |
| `operations`, `reason`, `s3_code`, `request_id` | | the same facts, one by one |
| `shard` | | which exporter it was, where [several share the targets](scaling.md) |
| `runbook_url` | the runbook | the runbook |

The request id is what the storage's support asks for. It is that of the first request that failed so.

## Pushed, from the rules, or both

Five alerts the exporter also raises by itself, with no Prometheus, and pushes to `alertmanager.urls`. Alertmanager knows an alert
by its labels alone, and these are the same from both: whoever runs both has one alert. Where Prometheus has `external_labels`,
write the same in [`alertmanager.labels`](configuration.md#alertmanager), or there are two.

| type | the exporter raises it | and ends it |
|---|---|---|
| `circuit_breaker_open` | when a trial failed, or the breaker has not been closed for 90 s | when the breaker is closed |
| `service_degraded` | when two operations failed within 2 minutes, and one fails at its latest run | when none does |
| `high_error_rate` | when the share is above `error_rate_threshold` for a minute, at least 3 of at least 10 operations | when it is down to half of that, or the breaker closed and every operation has run well since |
| `slow_response` | when more than 5 % of operations are above `slow_response_threshold` for 2 minutes, at least 3 of at least 10 | when 2.5 % or less are, or the breaker closed and every operation has been quick since |
| `service_recovered` | when the last of `circuit_breaker_open`, `service_degraded` and `high_error_rate` has ended and every operation works | after 5 minutes, or when one of these is back |

It looks back 5 minutes, or as long as ten operations take where that is longer; the rules then look back an hour. So one of the
two may come or end some minutes before the other. The exporter sends an active alert again every minute; if it dies, Alertmanager
ends the alert 4 minutes after it last heard of it. After a restart an alert goes on until it is known to be over.

`POST /api/health/alerts/{id}/resolve` ends the exporter's own alert. The rule's goes on, unless it is
[silenced as well](api.md#post-apihealthalertsidresolve).

What is active now: `r2_alert_active == 1` for the exporter's own, `ALERTS{alertstate="firing"}` for the rules'. Since when, and
which receiver it was routed to: the status page, or `GET /api/health/alerts`.

## Who was told

*Told to page*, as the status page has it, and `notifiedBy: page` in the API mean that Alertmanager routed the alert to its receiver
`page`, and that the exporter's webhook in that receiver was called. **They do not prove that anybody heard of it.** Alertmanager
notifies each integration of a receiver on its own, so the webhook is answered also while the pager or the chat beside it refuses.

Failures are counted by Alertmanager: `alertmanager_notification_requests_failed_total` each attempt, at once, and
`alertmanager_notifications_failed_total` what was given up; it retries a connection that is refused until the `group_interval` is
over (4 minutes in the example). Their label is the `integration` (`webhook`, `slack`, `pagerduty` …). Which receiver it was stands in
Alertmanager's log, at `Notify attempt failed`.

## In the order of an outage

1. `R2ServiceDegraded` is the first word: two operations failed. With a short interruption it is also the last. Where one operation
   alone fails it does not come.
2. `R2CircuitBreakerOpen` says that the storage failed, and failed again when it was tried. From here on only trials run, and the
   figures of other alerts say little.
3. `R2HighErrorRate` comes some 3 minutes after the first failure and ends soon, for hardly anything runs. Alertmanager's
   [example configuration](../rules/alertmanager.yml) holds it back while the breaker is open; without such an inhibition it is a
   second page. It is the only page where the breaker stays closed: it is disabled, its thresholds are above the default, or
   `failure_reasons` leaves out what fails.
4. `R2ServiceRecovered` says for 5 minutes that all of it is over. In the example configuration an outage that returns within
   4 minutes is no second page.

A single failed operation is no alert: its log line, the status page and `GET /api/health/history` have it.

## All of them

*Waits* is the rule's `for`, *lingers* its `keep_firing_for`; *compares with* is a setting in
[`r2_config_threshold`](metrics.md#r2_config_threshold), which holds at once when it is changed.

"""


@dataclass(frozen=True)
class Words:
    """What an operator asks of an alert, one line each."""

    says: str
    comes: str
    ends: str
    look: str
    is_not: str


WORDS = {
    "R2CircuitBreakerOpen": Words(
        says="Operations failed so often that the breaker opened, and the storage did not pass the trial after that.",
        comes="within 90 s of the first failed run where every operation fails; where only some do, once "
        "`failure_threshold` of them have, and 60 s (`recovery_timeout`) more for the trial.",
        ends="at the next scrape after a trial succeeded, which goes out once a minute.",
        look="the reason in the description. Then whether other targets have it too: all at once is the network or "
        "the exporter's host.",
        is_not="an interruption of some seconds: that opens the breaker as well, but the first trial closes it. Nor a "
        "judgement on your own calls: only probes were counted.",
    ),
    "R2ServiceDegraded": Words(
        says="Two operations failed within 2 minutes, and one fails at its latest run.",
        comes="with the next scrape after the second one failed: half a minute.",
        ends="when the latest run of every operation succeeded; while the breaker is open nothing runs, and it stays.",
        look="which operations: writes alone or reads alone points at the storage or a permission, all of them at the network.",
        is_not="a reason to get up: mostly it is over in 2 minutes, or R2CircuitBreakerOpen follows. Nor raised for one "
        "operation that fails alone.",
    ),
    "R2HighErrorRate": Words(
        says="More than `error_rate_threshold` of 5 minutes' operations failed, and of the last 2 minutes' as well.",
        comes="a minute after the share was first above it, with 3 failures among 10 operations: where all fail, 2 minutes "
        "after the first failure with the breaker disabled, 3 with it.",
        ends="when the share of the last 2 minutes is at or below it: 1½ minutes after an outage. While the breaker is "
        "open, when 5 minutes no longer hold 10 operations.",
        look="failures by operation and reason: one operation only, or one reason only?",
        is_not="a count of skipped operations, nor of failures before the breaker closed. That it ended while "
        "R2CircuitBreakerOpen goes on does not mean that anything works.",
    ),
    "R2SlowResponse": Words(
        says="The 95th percentile of 5 minutes and of the last 2 is above `slow_response_threshold`, all operations "
        "of the target together.",
        comes="2 minutes after the percentile was first above it.",
        ends="2 minutes after it is no longer above it, in 5 minutes or in the last 2.",
        look="the phase in the description: `resolve`, `connect`, `tls` are the way there, `processing` is the "
        "storage, `transfer` the bandwidth.",
        is_not="a failure: operations that end after 3 s have succeeded. Not the storage either, if "
        "`r2_exporter_event_loop_lag_seconds` has grown with it.",
    ),
    "R2ServiceRecovered": Words(
        says="R2CircuitBreakerOpen, R2HighErrorRate and R2ServiceDegraded of the target are all over.",
        comes="as soon as the last of them has ended.",
        ends="after 5 minutes, or at once when one of them is back.",
        look="nothing, or the history of the outage for the report.",
        is_not="the resolution of a page: Alertmanager sends that itself. Not a promise either: a target that flaps "
        "recovers each time.",
    ),
    "R2ExporterDown": Words(
        says="Prometheus gets no answer from an exporter that it scraped within the hour before.",
        comes="2 minutes after the first scrape that failed.",
        ends="with the first scrape that succeeds, or when the instance leaves `scrape_configs`.",
        look="Prometheus' page `/targets`: it shows the error of the scrape.",
        is_not="an outage of the storage; of that nothing is known until it is back. Another exporter may still "
        "watch the same targets.",
    ),
    "R2ExporterAbsent": Words(
        says="No exporter is scraped at all, and none is known to be down.",
        comes="after 10 minutes without one.",
        ends="with the first scrape of any exporter, or when R2ExporterDown fires.",
        look="Prometheus' page `/service-discovery`: the job is missing, or it finds nothing.",
        is_not="raised while one exporter of several is left: that is R2ExporterDown, or nothing if it was taken "
        "out of the configuration.",
    ),
    "R2ProbesMissing": Words(
        says="The exporter is scraped, but a target's last probe began more than 3 intervals ago.",
        comes="3 intervals and a minute after the last probe: some 2½ minutes.",
        ends="with the next probe.",
        look="the count of `overrun` in the description: above 0, a run takes longer than its interval.",
        is_not="raised while the breaker skips probes or probing is stopped. If the clocks of Prometheus and the "
        "exporter differ by minutes, it is wrong.",
    ),
    "R2TargetFlapping": Words(
        says="`r2_target_up` changed 8 times or more within an hour (four times down and up), and within the last 10 minutes.",
        comes="with the eighth change.",
        ends="after 10 minutes without a change, or when an hour holds fewer than 8.",
        look="the reason in the description, and connections that were found closed (`r2_probe_reconnects_total`).",
        is_not="one long outage: that is one change down and one up.",
    ),
    "R2CertificateExpiresSoon": Words(
        says="The certificate that the storage showed last expires in less than 14 days.",
        comes="15 minutes after it falls below 14 days.",
        ends="with a new connection that is shown the new one: every tenth run (`fresh_connection_every`).",
        look="who renews it: your own storage, or a proxy in between that breaks TLS open.",
        is_not="a failure yet. Nor a word on intermediate certificates: it reads the server's own alone.",
    ),
    "R2HistoryNotWriting": Words(
        says="Results have not reached the SQLite file for 5 minutes; they wait in memory.",
        comes="5 minutes after the first write that failed.",
        ends="when the file takes them again; no restart is needed.",
        look="the exporter's log, which names the cause, and how many results the description says are lost.",
        is_not="a gap in metrics or alerts: these do not need the file.",
    ),
    "R2ClockSkew": Words(
        says="The exporter's clock and the storage's `Date` differ by more than a minute.",
        comes="5 minutes after it was first so.",
        ends="when they differ by a minute or less.",
        look="whether all targets have it: then it is the exporter's host, else that storage.",
        is_not="a failure yet: storages refuse signatures beyond 15 minutes, with reason `auth`.",
    ),
    "R2ProbingBill": Words(
        says="At the pace of the last 6 hours probing the target costs more in 30 days than `monthly_budget`.",
        comes="an hour after the pace was first above it.",
        ends="when the pace of 6 hours is below it, so some hours after the interval was lengthened.",
        look="the interval in force, and who asks `/probe` or `POST /api/health/check` besides.",
        is_not="your bill: R2's list prices, without its free tier, without storage and without other users of the "
        "bucket. On another storage the dollars mean nothing.",
    ),
    "R2ErrorBudgetBurnFast": Words(
        says="The error budget of 30 days is spent more than 14.4 times too fast over an hour, or 6 times over 6 hours.",
        comes="2 minutes after both windows say so (1 h and 5 min, or 6 h and 30 min), with at least 150 s of "
        "downtime in the hour, or 300 s in the six.",
        ends="when the shorter window is clean enough: 5 or 30 minutes after the last failures.",
        look="whether it is failures or operations that the breaker skipped; both count as down.",
        is_not="a second page for one outage: what R2CircuitBreakerOpen or R2HighErrorRate told is left out.",
    ),
    "R2ErrorBudgetBurnSlow": Words(
        says="At the pace of a day (3 times too fast) or of three days (above 1) the budget of 30 days will not last.",
        comes="an hour after both windows say so (1 d and 2 h, or 3 d and 6 h).",
        ends="3 hours after one of the windows is below again.",
        look="what is left of the budget, and the most frequent reason of 6 hours; both stand in the description.",
        is_not="urgent. In the first days of a target the windows hold little, and a few failures raise it.",
    ),
}


def page() -> str:
    """The page in Markdown."""
    rules = alerting_rules()
    return HEAD + "\n".join([*_table(rules), "", *(line for rule in rules for line in _entry(rule))])


def _table(rules: list[Rule]) -> Iterator[str]:
    yield "| alert | severity | waits | lingers | compares with | also pushed | runbook |"
    yield "|---|---|---|---|---|---|---|"
    for rule in rules:
        name, anchor = rule.name, rule.name.lower()
        thresholds = ", ".join(f"`{each}`" for each in rule.thresholds if not each.startswith("alert_on_"))
        yield (
            f"| [`{name}`](#{anchor}) | {rule.labels['severity']} | {rule.waits} | {rule.lingers} | {thresholds} "
            f"| {'yes' if name in OWN else ''} | [runbook](runbooks/{name}.md) |"
        )
    for key in ("on_failure", "on_recovery"):
        silenced = ", ".join(f"`{rule.name}`" for rule in rules if f"alert_{key}" in rule.thresholds)
        yield f"\nSilent with `alerts.{key}: false`: {silenced}."


def _entry(rule: Rule) -> Iterator[str]:
    words = WORDS[rule.name]
    yield f"### {rule.name}\n"
    yield f"{words.says} *{rule.labels['severity']}, type `{rule.labels['type']}`*\n"
    yield f"- **Comes** {words.comes}"
    yield f"- **Ends** {words.ends}"
    yield f"- **Look first at** {words.look}"
    yield f"- **It is not** {words.is_not}"
    metrics = ("up", *(metric.name for metric in exporter_metrics()))
    asked = ", ".join(f"`{name}`" for name in metrics if asks_for(name, rule.text))
    yield f"- **Rests on** {asked}\n"
