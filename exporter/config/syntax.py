"""YAML text as nodes, or the reasons why not, told without quoting a word of the text."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from exporter.config.problem import ConfigError, Problem

MAX_BYTES = 4 << 20
MAX_NODES = 200_000
MAX_DEPTH = 40

UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def line_of(place: Any) -> int:
    """The line, from 1, where a YAML node or event begins."""
    return int(place.start_mark.line) + 1


def compose(source: str, text: str) -> yaml.Node | None:
    """The root node of the only document, None if it is empty. Raises ConfigError for anything else."""
    _check_characters(source, text)
    try:
        problems = list(_forbidden(text))
        root: yaml.Node | None = None if problems else yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as failure:
        problems = [_syntax_problem(failure, text)]
    except (yaml.YAMLError, ValueError, OverflowError):  # PyYAML lets bad escapes through as ValueError
        problems = [Problem("", 1, "not valid YAML: a character or an escape in it does not exist")]
    if problems:
        raise ConfigError(source, problems)
    return root


def _check_characters(source: str, text: str) -> None:
    if len(text) > MAX_BYTES:
        raise ConfigError(source, [Problem("", 1, f"the document is larger than {MAX_BYTES >> 20} MiB")])
    if odd := UNREADABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        message = f"the character U+{ord(odd[0]):04X} cannot stand in YAML text"
        raise ConfigError(source, [Problem("", line, message)])


def _forbidden(text: str) -> Iterator[Problem]:
    """What is YAML but has no place in a configuration file; stops where reading on could be endless."""
    anchors: set[str] = set()
    opened: list[str | None] = []
    documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        line = line_of(event)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            yield Problem("", line, "a second document begins here; a file holds only one")
            return
        if count > MAX_NODES or len(opened) > MAX_DEPTH:
            yield Problem("", line, "too many or too deeply nested values")
            return
        if isinstance(event, yaml.CollectionEndEvent):
            opened.pop()
        elif isinstance(event, yaml.NodeEvent):
            if message := _node_problem(event, anchors, opened):
                yield Problem("", line, message)
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(event.anchor)
            if event.anchor:
                anchors.add(event.anchor)


def _node_problem(event: yaml.NodeEvent, anchors: set[str], opened: list[str | None]) -> str:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor in opened:
            return "an alias (*) stands inside the value it refers to"
        if event.anchor not in anchors:
            return "an alias (*) without its anchor (&); a value that begins with * needs quotes"
    elif event.anchor in anchors:
        return "an anchor (&) of this name exists already"
    elif getattr(event, "tag", None) is not None:
        return "tags (!) are not supported; a value that begins with ! needs quotes"
    return ""


def _syntax_problem(failure: yaml.MarkedYAMLError, text: str) -> Problem:
    mark, begun = failure.problem_mark or failure.context_mark, failure.context_mark
    line = min(mark.line + 1, text.rstrip("\n").count("\n") + 1) if mark else 1
    where = f" (in what begins in line {begun.line + 1})" if begun and begun.line + 1 < line else ""
    return Problem("", line, f"not valid YAML: {_words(failure, text)}{where}")


def _words(failure: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's words without any of the document's own text, which may be a secret."""
    mark = failure.problem_mark
    if mark and text[mark.index : mark.index + 1] == "\t":
        return "a tab cannot indent; use spaces"
    if mark and text[max(mark.index - 1, 0) : mark.index + 1] == "${":  # which opens a mapping, in flow style
        return '${NAME} inside {} or [] needs quotes: "${NAME}"'
    said = (failure.problem or "it cannot be understood").partition(", but")[0]
    if "cannot start any token" in said:
        return "a value that begins with such a character needs quotes"
    return re.sub(r" *'[^']*\w[^']*'", "", said) if "tag handle" in said else said
