"""The API's named tokens in exporter.yaml: read from files, long enough, and each caller known by one."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from exporter.config import ConfigError, Secret, Settings, dump, load_settings

TARGETS = [{"name": "a", "endpoint": "http://a", "bucket": "aaa"}]
DEPLOY, GRAFANA, SINGLE = "hunter2-of-the-deployment", "hunter2-of-the-dashboards", "hunter2-the-single-one"
VARIABLE, GIVEN = "R2_EXPORTER_API_TOKEN", "hunter2-by-a-variable"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with tokens in files."""
    (tmp_path / "secrets").mkdir()
    contents = {
        "deploy": DEPLOY + "\n",
        "grafana": GRAFANA,
        "again": DEPLOY + "\r\n",
        "sixteen": "hunter2-sixteen!",
        "fifteen": "hunter2-fifteen",
        "empty": "\n",
        "spaced": "hunter2 with spaces in it",
    }
    for name, text in contents.items():
        (tmp_path / "secrets" / name).write_bytes(text.encode())
    (tmp_path / "single").write_text(SINGLE + "\n")
    return tmp_path


def token(name: str, file: str, scope: str = "read") -> dict[str, str]:
    return {"name": name, "token_file": f"secrets/{file}", "scope": scope}


def load(folder: Path, *tokens: object, env: Mapping[str, str] | None = None, **api: object) -> Settings:
    file = folder / "exporter.yaml"
    written = {"api": {**api, "tokens": list(tokens)}, "targets": TARGETS}
    file.write_text(yaml.safe_dump(written, sort_keys=False))
    return load_settings(file, env or {})


def problems(
    folder: Path, *tokens: object, env: Mapping[str, str] | None = None, **api: object
) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(folder, *tokens, env=env, **api)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_named_tokens_stand_beside_the_single_one(folder: Path) -> None:
    tokens = (token("deploy", "deploy", "write"), token("grafana", "grafana"))
    api = load(folder, *tokens, token_file="single").api
    assert [(each.name, each.scope, each.token) for each in api.all_tokens] == [
        ("api", "write", Secret(SINGLE)),
        ("deploy", "write", Secret(DEPLOY)),
        ("grafana", "read", Secret(GRAFANA)),
    ]
    assert [each.name for each in load(folder, *tokens).api.all_tokens] == ["deploy", "grafana"]
    by_variable = load(folder, *tokens, env={VARIABLE: GIVEN}, token_file="no-such-file").api
    assert by_variable.all_tokens[0].token == Secret(GIVEN)
    assert load(folder).api.all_tokens == ()


def test_sixteen_characters_are_enough_and_fifteen_are_not(folder: Path) -> None:
    assert load(folder, token("a", "sixteen")).api.tokens[0].token == Secret("hunter2-sixteen!")
    [(path, message)] = problems(folder, token("a", "fifteen"))
    assert path == "api.tokens[0].token_file"
    assert "secrets/fifteen: holds fewer than 16 characters; `openssl rand -hex 32`" in message


def test_the_single_token_needs_as_many(folder: Path) -> None:
    assert load(folder, token_file="secrets/sixteen").api.token == Secret("hunter2-sixteen!")
    assert load(folder, env={VARIABLE: "hunter2-sixteen!"}).api.token == Secret("hunter2-sixteen!")
    [(path, message)] = problems(folder, token_file="secrets/fifteen")
    assert path == "api.token_file"
    assert "secrets/fifteen: holds fewer than 16 characters; `openssl rand -hex 32`" in message
    [(path, message)] = problems(folder, env={VARIABLE: "hunter2-fifteen"}, token_file="secrets/fifteen")
    assert path == ""
    assert message.startswith(f"the environment variable {VARIABLE} holds fewer than 16 characters; `openssl")


def test_a_dump_shows_files_and_no_token_and_loads_again(folder: Path) -> None:
    settings = load(folder, token("deploy", "deploy", "write"), token("grafana", "grafana"))
    dumped = dump(settings)
    assert "hunter2" not in f"{dumped} {settings} {settings!r} {settings.model_dump_json()}"
    (folder / "exporter.yaml").write_text(dumped)
    assert load_settings(folder / "exporter.yaml", {}) == settings


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        (token("", "deploy"), ".name", "expected 1 to 63 letters"),
        (token("two words", "deploy"), ".name", "expected 1 to 63 letters"),
        (token("login:alice", "deploy"), ".name", "expected 1 to 63 letters"),
        (token("a" * 64, "deploy"), ".name", "expected 1 to 63 letters"),
        (token("api", "deploy"), ".name", "but not api"),
        (token("anonymous", "deploy"), ".name", "nor anonymous"),
        (token("a", "deploy", "admin"), ".scope", "expected one of read or write"),
        ({"name": "a", "token_file": "secrets/deploy"}, ".scope", "is required"),
        ({"name": "a", "scope": "read"}, ".token_file", "is required"),
        ({"name": "a", "scope": "read", "token_file": ""}, ".token_file", "at least 1"),
        ({**token("a", "deploy"), "token": "x"}, ".token", "unknown key"),
        (token("a", "none"), ".token_file", "there is no such file"),
        (token("a", "empty"), ".token_file", "is empty"),
        (token("a", "spaced"), ".token_file", "holds a space"),
        ("deploy", "", "expected a mapping"),
    ],
)
def test_tokens_that_are_refused(folder: Path, written: object, path: str, words: str) -> None:
    [(found, message)] = problems(folder, token("first", "grafana"), written)
    assert found == f"api.tokens[1]{path}"
    assert words in message


def test_one_name_for_two_tokens_leaves_open_who_called(folder: Path) -> None:
    [(path, message)] = problems(folder, token("a", "deploy"), token("a", "grafana"))
    assert path == "api.tokens[1].name"
    assert message == "must be unique; the token in line 3 has the same name"


def test_two_names_for_one_token_leave_open_what_it_may(folder: Path) -> None:
    [(path, message)] = problems(folder, token("a", "deploy", "write"), token("b", "again"))
    assert path == "api.tokens[1].token_file"
    assert message == "holds the same token as api.tokens[0].token_file"
    [(path, message)] = problems(folder, token("a", "deploy"), token_file="secrets/again")
    assert (path, message) == ("api.tokens[0].token_file", "holds the same token as api.token_file")
    [(path, message)] = problems(folder, token("a", "deploy"), env={"R2_EXPORTER_API_TOKEN": DEPLOY})
    assert (path, message) == ("api.tokens[0].token_file", "holds the same token as R2_EXPORTER_API_TOKEN")


@pytest.mark.parametrize(
    "origin", ["*", "https://a.example.org", "http://localhost:3000", "http://[::1]:3000"]
)
def test_origins(folder: Path, origin: str) -> None:
    assert load(folder, cors_origins=[origin]).api.cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin", ["", "null", "a.example.org", "https://a/", "https://*.a", "ftp://a", "https://"]
)
def test_origins_that_are_none(folder: Path, origin: str) -> None:
    assert [path for path, _ in problems(folder, cors_origins=[origin])] == ["api.cors_origins[0]"]
