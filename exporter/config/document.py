"""A YAML document as plain data that knows the line of every value.

Scalars stay text, so that `0123e45` or `on` mean what was written and not what YAML 1.1
makes of them; the model that reads the data gives them their types.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from exporter.config.explain import explain
from exporter.config.problem import ConfigError, Path, Problem, show_path
from exporter.config.syntax import MAX_BYTES, MAX_DEPTH, MAX_NODES, UNREADABLE, compose, line_of

__all__ = ["ConfigError", "Document", "Problem", "Section", "load_model", "read_text"]

Value = dict[str, "Value"] | list["Value"] | str | None
M = TypeVar("M", bound=BaseModel)

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^{}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Section(BaseModel):
    """A mapping of a file: no unknown keys, never changed, and `key:` with nothing means its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = {info.alias or name for name, info in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


@dataclass(frozen=True, slots=True)
class Document:
    """The data of one YAML document and where each part of it stands.

    `problems` holds what is wrong before any model sees the data, such as an unset variable;
    `hidden` the paths whose text came from the environment; `unusable` those without a usable text.
    """

    source: str
    data: Value
    lines: Mapping[Path, int]
    hidden: frozenset[Path]
    unusable: frozenset[Path]
    problems: tuple[Problem, ...]

    @classmethod
    def parse(cls, source: str, text: str, env: Mapping[str, str]) -> Self:
        """Reads `text`, replacing `${NAME}` in values from `env`; raises ConfigError if it is not YAML."""
        root = compose(source, text)
        tree = _Tree(source, env)
        data = {} if root is None else tree.value(root, ())
        return cls(
            source,
            {} if data is None else data,
            tree.lines,
            frozenset(tree.hidden),
            frozenset(tree.unusable),
            tuple(tree.problems),
        )

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at `path`, with the line of the nearest part of it that the file has."""
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
        return Problem(show_path(path), 1 if known is None else self.lines[known], message)

    def validate(self, model: type[M]) -> tuple[M | None, tuple[Problem, ...]]:
        """The data as a `model`, or None and every problem, those of the document included."""
        try:
            valid = model.model_validate(self.data)
        except ValidationError as error:
            found = explain(model, self.data, error, self.hidden)
            wrong = [self.problem(path, message) for path, message in found if path not in self.unusable]
            return None, (*self.problems, *wrong)
        return (None if self.problems else valid), self.problems


def load_model(model: type[M], source: str, text: str, env: Mapping[str, str]) -> M:
    """`text` as a `model`; `source` names the file in errors. Raises ConfigError with every problem."""
    valid, problems = Document.parse(source, text, env).validate(model)
    if valid is None:
        raise ConfigError(source, problems)
    return valid


def read_text(path: FilePath, mend: str = "") -> str:
    """The file's text; raises ConfigError, with `mend` added when there is no such file."""

    def error(message: str, line: int | None = None) -> ConfigError:
        return ConfigError(str(path), [Problem("", line, message)])

    try:
        if path.is_fifo() and not path.is_relative_to("/dev"):  # whose writer may never come
            raise error("is a pipe, not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise error("there is no such file" + (f"; {mend}" if mend else "")) from None
    except IsADirectoryError:
        raise error("is a folder, not a file" + (f"; {mend}" if mend else "")) from None
    except OSError as failure:
        raise error(f"cannot be read: {failure.strerror}; check its owner and mode") from None
    except ValueError:  # a NUL inside the path
        raise error("is not a usable file name") from None
    if len(raw) > MAX_BYTES:
        raise error(f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise error("is not UTF-8 text; save it as UTF-8", raw.count(b"\n", 0, failure.start) + 1) from None


@dataclass
class _Tree:
    """Turns YAML nodes into plain data, noting lines and problems on the way."""

    source: str
    env: Mapping[str, str]
    lines: dict[Path, int] = field(default_factory=dict)
    hidden: set[Path] = field(default_factory=set)
    unusable: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    inserted: int = 0

    def value(self, node: yaml.Node, path: Path) -> Value:
        self._spend(node, len(path))
        self.lines.setdefault(path, line_of(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return None if node.tag == _NULL else self._text(node.value, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Value:
        entries = self._entries(node, path, len(path))
        for name, (key, _) in entries.items():
            self.lines[(*path, name)] = line_of(key)
        return {name: self.value(value, (*path, name)) for name, (_, value) in entries.items()}

    def _entries(
        self, node: yaml.MappingNode, path: Path, depth: int
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Key and value nodes by name; those of merge keys (`<<`) give way to the mapping's own."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            self._spend(key, depth)
            if key.tag == _MERGE:
                for mapping in self._merged(value, path):
                    merged = self._entries(mapping, path, depth + 1) | merged
            elif not isinstance(key, yaml.ScalarNode) or key.tag == _NULL or UNREADABLE.search(key.value):
                self._problem(path, key, "a key must be plain text")
            elif key.value in own:
                first = line_of(own[key.value][0])
                self._problem((*path, key.value), key, f"the key stands here twice, first in line {first}")
            else:
                own[key.value] = (key, value)
        return merged | own

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[yaml.MappingNode]:
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(source, yaml.MappingNode):
                yield source
            else:
                self._problem(path, source, "<< takes a mapping or a list of mappings, such as *anchor")

    def _text(self, written: str, path: Path) -> str:
        def replace(found: re.Match[str]) -> str:
            escaped, name, closed = found.groups()
            if escaped:
                return str(escaped)
            if not (closed and _NAME.fullmatch(name)):
                return self._refuse(path, "expected ${NAME}; write $${ for a literal ${")
            if name not in self.env:
                return self._refuse(path, f"the environment variable {name} is not set")
            self.hidden.add(path)
            self._insert(self.env[name], path)
            return self.env[name]

        text = _REFERENCE.sub(replace, written)
        if UNREADABLE.search(text):
            return self._refuse(path, "the value holds control characters")
        return text

    def _refuse(self, path: Path, message: str) -> str:
        self.unusable.add(path)
        self.problems.append(Problem(show_path(path), self.lines[path], message))
        return ""

    def _problem(self, path: Path, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(show_path(path), line_of(node), message))

    def _insert(self, text: str, path: Path) -> None:
        """A long variable that is named again and again makes a small file huge, too."""
        self.inserted += len(text)
        if self.inserted > MAX_BYTES:
            message = f"more than {MAX_BYTES >> 20} MiB, once the environment's variables are in it"
            raise ConfigError(self.source, [Problem(show_path(path), self.lines[path], message)])

    def _spend(self, node: yaml.Node, depth: int) -> None:
        """Aliases can make a small file huge, so what they expand to is counted too."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            message = "too many or too deeply nested values, once aliases (*) are followed"
            raise ConfigError(self.source, [Problem("", line_of(node), message)])
