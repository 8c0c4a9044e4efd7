"""A silence, as Alertmanager's v2 API takes it: nobody is told of what it matches until it ends."""

import json
from collections.abc import Mapping

from exporter.alertmanager.pushed import rfc3339

PATH = "/api/v2/silences"
ONE = "/api/v2/silence"
LONGEST_COMMENT = 1000
LONGEST_ID = 100


class SilenceError(Exception):
    """No silence was set; `asked` says whether there was somebody to ask."""

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


def to_json(labels: Mapping[str, str], *, start: float, end: float, by: str, comment: str) -> bytes:
    """The body of POST /api/v2/silences, for alerts with these labels. Times are Unix seconds."""
    matchers = [
        {"name": name, "value": value, "isRegex": False, "isEqual": True}
        for name, value in labels.items()
        if value
    ]
    silence = {
        "matchers": matchers,
        "startsAt": rfc3339(start),
        "endsAt": rfc3339(end),
        "createdBy": by,
        "comment": comment[:LONGEST_COMMENT],
    }
    return json.dumps(silence).encode()


def silence_id(body: bytes) -> str:
    """What Alertmanager calls the silence it has set. Raises ValueError."""
    try:
        found = json.loads(body)["silenceID"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("it did not say what it calls the silence") from error
    return str(found)[:LONGEST_ID]
