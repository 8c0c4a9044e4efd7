"""How to read each alert: the table is made from the rules, the words around it are ours."""

import re
from pathlib import Path

import yaml

from exporter.alerts import ALERT_NAMES

ROOT = Path(__file__).parents[1]
OWN = set(ALERT_NAMES.values())

HEAD = """\
# How to read an alert

The table is made from [the rules](../rules/r2-exporter.yml) by `make generate`. Each alert has a runbook with what it means,
what to look at and what to do; this page is what they have in common.

## What an alert says

- **`alertname`, `type`, `severity`, `target`** are its whole identity, the same from Prometheus' rules and from the exporter's
  own push, so that whoever runs both gets one notification. Alerts of the exporter itself have `instance` in place of `target`.
- **The summary** fits a phone: which target, and what. **The description** names the operations that fail at their latest run,
  each with its [reason](../README.md#why-it-failed), S3 code, and the request id that the storage's support asks for.
- **`runbook_url`** leads to the page in the last column.
- **What is not an alert**: a single failed operation. Its log line, the status page and
  `GET /api/health/history` have it.

| severity | in JSON and SQLite | what it asks of you |
|---|---|---|
| `critical` | CRITICAL | wake somebody: the storage does not work |
| `high` | HIGH | wake somebody: part of it does not work, or nobody is watching |
| `warning` | MEDIUM | today: it may become worse, or is about to |
| `info` | LOW | nothing; it is news |

## In the order of an outage

1. `R2ServiceDegraded` is the first word: two operations failed. With a short interruption it is also the last.
2. `R2CircuitBreakerOpen` says that the storage failed, and failed again when it was tried. From here on probes are skipped:
   the numbers of other alerts stand still, so Alertmanager's example configuration holds those back.
3. `R2HighErrorRate` comes instead where part of the operations still works, as when writes fail and reads do not.
4. `R2ServiceRecovered` says for five minutes that all of it is over. An outage that returns before is the same page.

Which of them is there at this moment, and since when: `r2_alert_active == 1`, the status page, or
`GET /api/health/alerts`. Times are at the defaults (30 s interval, 15 s scrape); [scaling](scaling.md) and
[cost](cost.md) say what a longer interval does to them.

## All of them

*Waits* is how long the condition must hold before anybody is told. Those with *also pushed* the exporter raises by itself as
well, with no Prometheus at all.

"""


def page() -> str:
    """The page in Markdown."""
    groups = yaml.safe_load(ROOT.joinpath("rules", "r2-exporter.yml").read_text())["groups"]
    rows = ["| alert | severity | waits | also pushed | what it says |", "|---|---|---|---|---|"]
    for rule in [rule for group in groups for rule in group["rules"] if "alert" in rule]:
        name = rule["alert"]
        summary = re.sub(r"\{\{.*?\}\}", "…", rule["annotations"]["summary"]).removeprefix("…: ")
        pushed = "yes" if name in OWN else ""
        rows.append(
            f"| [`{name}`](runbooks/{name}.md) | {rule['labels']['severity']} | {rule.get('for', '')} "
            f"| {pushed} | {summary} |"
        )
    return HEAD + "\n".join(rows) + "\n"
