"""What no single value shows: keys that exclude, need or repeat each other, names that repeat."""

from collections.abc import Iterator, Mapping

from exporter.config.document import Document, Value
from exporter.config.endpoint import surplus
from exporter.config.problem import Path, Problem

SECRETS = ("access_key_id", "secret_access_key", "session_token")


def written_targets(document: Document) -> Iterator[tuple[Path, Mapping[str, Value]]]:
    """Each target's place and its keys that have a value, whether valid or not."""
    targets = document.data.get("targets") if isinstance(document.data, dict) else None
    for number, target in enumerate(targets if isinstance(targets, list) else []):
        if isinstance(target, dict):
            yield ("targets", number), {key: value for key, value in target.items() if value is not None}


def contradictions(document: Document) -> Iterator[Problem]:
    """Works on what is written, so that it speaks even where a value is wrong elsewhere."""
    first_named: dict[str, Path] = {}
    for place, target in written_targets(document):
        for key, message in _within(target):
            yield document.problem((*place, key) if key else place, message)
        name, named = target.get("name"), (*place, "name")
        if not isinstance(name, str) or named in document.unusable:
            continue
        if name in first_named:
            line = document.lines[first_named[name]]
            yield document.problem(named, f"must be unique; the target in line {line} has the same name")
        first_named.setdefault(name, named)


def _within(target: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """The key that is one too many, or "" where one is lacking, and the reason."""
    if "account_id" in target and "endpoint" in target:
        yield "endpoint", "give account_id or endpoint, not both"
    if "account_id" not in target and "endpoint" not in target:
        yield "", "needs account_id (Cloudflare R2) or endpoint (any S3-compatible store)"
    if message := surplus(target.get("endpoint"), target.get("bucket")):
        yield "endpoint", message
    if "jurisdiction" in target and "account_id" not in target:
        yield "jurisdiction", "goes with account_id only"
    for key in SECRETS:
        if key in target and f"{key}_file" in target:
            yield f"{key}_file", f"give {key} or {key}_file, not both"
    has_id, has_key, has_token = (bool({key, f"{key}_file"} & target.keys()) for key in SECRETS)
    if has_id != has_key:
        given, lacking = SECRETS[:2] if has_id else reversed(SECRETS[:2])
        yield "", f"has {given} but no {lacking}; give both, or neither for boto3's credential chain"
    if has_token and not (has_id or has_key):
        yield "", "has session_token but no access_key_id and secret_access_key"
