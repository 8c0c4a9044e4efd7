"""A configuration file, with the files it names, as resolved settings."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from exporter.config import alertmanager
from exporter.config.alertmanager import AlertmanagerSettings
from exporter.config.contradiction import SECRETS, contradictions, written_targets
from exporter.config.document import Document, Section, read_text
from exporter.config.model import ConfigFile, TargetFile
from exporter.config.problem import ConfigError, Problem
from exporter.config.problem import Path as Place
from exporter.config.settings import ApiSettings, ApiToken, Settings, TargetSettings
from exporter.config.tokens import TOKEN_VARIABLE, check_token, repeated, variable_problems, written_tokens
from exporter.config.values import Secret, check_credential, check_password

S = TypeVar("S", bound=Section)

LONGEST_NAME = 1024
"""Characters of a file's name that a message repeats."""

_HOST_PART = {"default": "", "eu": ".eu", "fedramp": ".fedramp"}


def load_settings(path: Path, env: Mapping[str, str]) -> Settings:
    """The settings in the file at `path`, with `${NAME}` and the API's token taken from `env`.

    Raises ConfigError with every problem of the file and of those it names.
    """
    text = read_text(path, "write one like the project's exporter.yaml, or run `r2-exporter demo`")
    folder = path.absolute().parent
    token = env.get(TOKEN_VARIABLE, "")

    document = Document.parse(str(path), text, env)
    file, problems = document.validate(ConfigFile)
    contents, unreadable = _read_named(document, folder, with_token=not token)
    found = [*problems, *contradictions(document), *alertmanager.contradictions(document), *unreadable]
    found += [*variable_problems(token), *repeated(document, contents, token)]
    if file is None or found:
        raise ConfigError(str(path), found)
    return _resolve(file, contents, folder, token)


def _read_named(
    document: Document, folder: Path, *, with_token: bool
) -> tuple[dict[Place, str], list[Problem]]:
    """The text of every file the document names, by the place that names it."""
    contents: dict[Place, str] = {}
    problems: list[Problem] = []
    for place, name, read in _named(document, folder, with_token):
        shown = str(folder / name)
        if place in document.hidden or not shown.isprintable() or len(shown) > LONGEST_NAME:
            shown = "the file"
        try:
            contents[place] = read(folder / name)
        except ConfigError as error:
            problems.append(document.problem(place, f"{shown}: {error.problems[0].message}"))
        except ValueError as error:
            problems.append(document.problem(place, f"{shown}: {error}"))
    return contents, problems


def _named(
    document: Document, folder: Path, with_token: bool
) -> Iterator[tuple[Place, str, Callable[[Path], str]]]:
    readers = {f"{key}_file": _credential for key in SECRETS} | {"ca_file": _certificates}
    for place, target in written_targets(document):
        for key, reader in readers.items():
            name = target.get(key)
            if isinstance(name, str) and name:
                yield (*place, key), name, reader
    for place, token in written_tokens(document):
        name, single = token.get("token_file"), place == ("api",)
        if isinstance(name, str) and name and (with_token or not single):
            yield (*place, "token_file"), name, _token
    yield from _named_for_alertmanager(document, folder)


def _named_for_alertmanager(
    document: Document, folder: Path
) -> Iterator[tuple[Place, str, Callable[[Path], str]]]:
    files = dict(alertmanager.written_files(document))
    certificate = folder / files.get(("alertmanager", "cert_file"), "")
    readers: dict[str, Callable[[Path], str]] = {
        "password_file": _password,
        "bearer_token_file": _credential,
        "ca_file": _certificates,
        "cert_file": _certificates,
        "key_file": partial(_private_key, certificate=certificate),
    }
    for place, name in files.items():
        if reader := readers.get(str(place[-1])):
            yield place, name, reader


def _credential(path: Path) -> str:
    return check_credential(_only_line(path))


def _password(path: Path) -> str:
    return check_password(_only_line(path))


def _only_line(path: Path) -> str:
    text = read_text(path, "create it with the secret as its only line")
    return text.removesuffix("\n").removesuffix("\r")


def _token(path: Path) -> str:
    return check_token(_only_line(path))


def _certificates(path: Path) -> str:
    text = read_text(path, "it should hold the trusted certificates in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds no certificates in PEM form (BEGIN CERTIFICATE)") from None
    return text


def _private_key(path: Path, certificate: Path) -> str:
    text = read_text(path, "it should hold the private key in PEM form")

    def refuse_passphrase() -> str:  # OpenSSL would ask for it on the terminal
        raise ValueError("is encrypted; store it without a passphrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, path, refuse_passphrase)
    except ssl.SSLError:
        raise ValueError("holds no private key in PEM form of the certificate in cert_file") from None
    except OSError:  # of the certificate, whose own key says so
        pass
    return text


def _resolve(file: ConfigFile, contents: Mapping[Place, str], folder: Path, token: str) -> Settings:
    token = token or contents.get(("api", "token_file"), "")
    return Settings(
        exporter=file.exporter,
        probe=file.probe,
        breaker=file.breaker,
        alerts=file.alerts,
        alertmanager=_resolve_alertmanager(file.alertmanager, contents, folder),
        history=file.history,
        api=ApiSettings(
            token_file=_located(folder, file.api.token_file) or "",
            token=Secret(token) if token else None,
            tokens=tuple(
                ApiToken(
                    name=each.name,
                    token_file=str(folder / each.token_file),
                    scope=each.scope,
                    token=Secret(contents["api", "tokens", number, "token_file"]),
                )
                for number, each in enumerate(file.api.tokens)
            ),
            cors_origins=file.api.cors_origins,
        ),
        targets=tuple(
            _resolve_target(file, target, _secrets(contents, ("targets", number)), folder)
            for number, target in enumerate(file.targets)
        ),
    )


def _resolve_alertmanager(
    section: AlertmanagerSettings, contents: Mapping[Place, str], folder: Path
) -> AlertmanagerSettings:
    def given(place: Place, written: Secret | None) -> Secret | None:
        return Secret(contents[place]) if place in contents else written

    login, update = section.basic_auth, {}
    for key in ("bearer_token_file", "ca_file", "cert_file", "key_file"):
        update[key] = _located(folder, getattr(section, key))
    token = given(("alertmanager", "bearer_token_file"), section.bearer_token)
    if login is not None:
        password = given(("alertmanager", "basic_auth", "password_file"), login.password)
        file = _located(folder, login.password_file)
        login = login.model_copy(update={"password": password, "password_file": file})
    return section.model_copy(update={**update, "basic_auth": login, "bearer_token": token})


def _secrets(contents: Mapping[Place, str], place: Place) -> dict[str, Secret]:
    """What the target's secret files hold, by the key that the secret itself would have."""
    read = {key: contents.get((*place, f"{key}_file")) for key in SECRETS}
    return {key: Secret(text) for key, text in read.items() if text is not None}


def _resolve_target(
    file: ConfigFile, target: TargetFile, read: Mapping[str, Secret], folder: Path
) -> TargetSettings:
    return TargetSettings(
        name=target.name,
        endpoint=_endpoint(target),
        bucket=target.bucket,
        region=target.region or ("auto" if target.account_id else "us-east-1"),
        addressing_style=target.addressing_style,
        access_key_id=read.get("access_key_id", target.access_key_id),
        access_key_id_file=_located(folder, target.access_key_id_file),
        secret_access_key=read.get("secret_access_key", target.secret_access_key),
        secret_access_key_file=_located(folder, target.secret_access_key_file),
        session_token=read.get("session_token", target.session_token),
        session_token_file=_located(folder, target.session_token_file),
        ca_file=_located(folder, target.ca_file),
        labels=target.labels,
        probe=_overlaid(file.probe, target.probe),
        breaker=_overlaid(file.breaker, target.breaker),
        alerts=_overlaid(file.alerts, target.alerts),
    )


def _endpoint(target: TargetFile) -> str:
    """R2's S3 endpoints: https://developers.cloudflare.com/r2/reference/data-location/."""
    if target.endpoint:
        return target.endpoint
    return f"https://{target.account_id}{_HOST_PART[target.jurisdiction]}.r2.cloudflarestorage.com"


def _located(folder: Path, name: str | None) -> str | None:
    return str(folder / name) if name else None


def _overlaid(defaults: S, given: S) -> S:
    """The defaults, except for the keys that were written down in `given`."""
    return defaults.model_copy(update={key: getattr(given, key) for key in given.model_fields_set})
