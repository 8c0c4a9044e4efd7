"""The API's tokens as a configuration names them: where they stand, and which of them will not do."""

from collections.abc import Iterator, Mapping

from exporter.config.document import Document, Value
from exporter.config.problem import Path, Problem, show_path
from exporter.config.values import check_credential

TOKEN_VARIABLE = "R2_EXPORTER_API_TOKEN"  # noqa: S105 - the variable's name, not its value
MIN_LENGTH = 16


def written_tokens(document: Document) -> Iterator[tuple[Path, Mapping[str, Value]]]:
    """The place and the keys of the api section itself and then of each of its tokens, valid or not."""
    api = document.data.get("api") if isinstance(document.data, dict) else None
    if not isinstance(api, dict):
        return
    yield ("api",), api
    tokens = api.get("tokens")
    for number, token in enumerate(tokens if isinstance(tokens, list) else []):
        if isinstance(token, dict):
            yield ("api", "tokens", number), token


def check_token(text: str) -> str:
    """The text if it is a credential too long to be guessed; raises ValueError that never quotes it."""
    if len(check_credential(text)) < MIN_LENGTH:
        raise ValueError(
            f"holds fewer than {MIN_LENGTH} characters; `openssl rand -hex 32` makes a good token"
        )
    return text


def variable_problems(token: str) -> Iterator[Problem]:
    """What is wrong with the token from the environment; "" is none."""
    try:
        if token:
            check_token(token)
    except ValueError as error:
        yield Problem("", None, f"the environment variable {TOKEN_VARIABLE} {error}")


def repeated(document: Document, contents: Mapping[Path, str], from_environment: str) -> Iterator[Problem]:
    """Names that two tokens have, and tokens that have two names: each caller must be known by one."""
    names: dict[str, Path] = {}
    holders = {from_environment: TOKEN_VARIABLE} if from_environment else {}
    for place, token in written_tokens(document):
        name, named = token.get("name"), (*place, "name")
        if place != ("api",) and isinstance(name, str) and named not in document.unusable:
            if name in names:
                line = document.lines[names[name]]
                yield document.problem(named, f"must be unique; the token in line {line} has the same name")
            names.setdefault(name, named)
        held = (*place, "token_file")
        if (text := contents.get(held)) is not None:
            if text in holders:
                yield document.problem(held, f"holds the same token as {holders[text]}")
            holders.setdefault(text, show_path(held))
