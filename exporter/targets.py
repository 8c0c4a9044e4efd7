"""From a target's settings to its probe: credentials, TLS context, proxy and connections."""

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

import structlog
from yarl import URL

from exporter.config import ConfigError, Problem, Settings, TargetSettings
from exporter.probe import Probe
from exporter.s3.address import Address
from exporter.s3.client import Client, tls_context
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials, CredentialSource, StaticCredentials
from exporter.storage import Storage

_PASSWORD = re.compile(r"(?:[^:/?#]*://)?[^:@/?#]*:([^/?#]+)@")
"""In a URL, with a scheme or without, and in what is none: urllib raises an error for that."""

log = structlog.get_logger(__name__)


class TlsContexts:
    """One verifying context for each CA bundle, made anew when the bundle's content changes.

    Making one parses every authority of the system, which takes milliseconds: share them, and
    make them off the event loop.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, bytes], ssl.SSLContext] = {}
        self._latest: dict[str | None, ssl.SSLContext] = {}

    def get(self, ca_file: str | None) -> ssl.SSLContext:
        """A bundle that was good and no longer is leaves its last context in force.

        Raises OSError and ssl.SSLError for one that never was.
        """
        try:
            self._latest[ca_file] = self._current(ca_file)
        except OSError as error:  # ssl.SSLError is one
            if ca_file not in self._latest:
                raise
            log.warning("the bundle of authorities of before stays in force", file=ca_file, cause=str(error))
        return self._latest[ca_file]

    def _current(self, ca_file: str | None) -> ssl.SSLContext:
        digest = hashlib.sha256(Path(ca_file).read_bytes()).digest() if ca_file else b""
        key = (ca_file, digest)
        if key not in self._made:
            self._made[key] = tls_context(ca_file)
        return self._made[key]


def make_probe(
    target: TargetSettings,
    tls: ssl.SSLContext,
    chain: ChainCredentials,
    connections: Connections,
    *,
    instance: str,
    cleaned: Callable[[bool], None] = lambda _: None,
) -> Probe:
    """A probe of `target`. Opens nothing yet."""
    address = Address(target.endpoint, target.bucket, virtual_host=target.addressing_style == "virtual")
    proxy = proxy_for(str(address.url()), getproxies_environment())
    client = Client(tls=tls, proxy=proxy, connections=connections)
    storage = Storage(address, target.region, _credentials(target, chain), client)
    return Probe(target, storage, instance, cleaned=cleaned)


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The HTTP proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `url`.

    `proxies` is what urllib's getproxies_environment() makes of them. NO_PROXY lists hosts and
    domains, each with a port or without, or `*`; networks such as 10.0.0.0/8 are not understood.
    Decided once for a target: aiohttp would read the environment in a thread at every request,
    and the time of it would count as the storage's.

    Raises ConfigError for one that can be no proxy: its probes would fail, and say so of the storage.
    """
    parts = urlsplit(url)
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(scheme)
    if not proxy or _is_exempt({parts.netloc.lower(), parts.hostname or ""}, proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        log.warning("proxy not used: only http and https proxies are supported", url=url)
        return None
    if not _has_host(proxy):
        names = f"{scheme}_proxy", f"{scheme}_proxy".upper()  # urllib, too, prefers the first
        name = next((each for each in names if os.environ.get(each)), names[1])
        problem = "is not the URL of a proxy, such as http://proxy.example.com:3128"  # it may hold a password
        raise ConfigError("the environment", [Problem(name, None, problem)])
    return proxy


def _has_host(url: str) -> bool:
    """Whether it is a URL that can be connected to, as aiohttp reads it."""
    try:
        return bool(URL(url).host)
    except ValueError:
        return False


def secrets_of(settings: Settings, proxies: Mapping[str, str]) -> list[str]:
    """Everything that the log must mask."""
    owned = [*(each.token for each in settings.api.all_tokens), *settings.alertmanager.secrets]
    for target in settings.targets:
        owned += [secret for secret in (target.secret_access_key, target.session_token) if secret is not None]
    return [secret.get_secret_value() for secret in owned] + proxy_passwords(proxies)


def proxy_passwords(proxies: Mapping[str, str]) -> list[str]:
    """The passwords in these proxies' URLs, for the log to mask."""
    found = map(_PASSWORD.match, proxies.values())
    return [unquote(each[1]) for each in found if each]


def _is_exempt(names: set[str], no_proxy: str) -> bool:
    listed = {entry.strip().lstrip(".").lower() for entry in no_proxy.split(",")} - {""}
    return "*" in listed or any(f".{name}".endswith(f".{entry}") for name in names for entry in listed)


def _credentials(target: TargetSettings, chain: ChainCredentials) -> CredentialSource:
    if target.access_key_id is None or target.secret_access_key is None:
        return chain
    return StaticCredentials(
        target.access_key_id.get_secret_value(),
        target.secret_access_key.get_secret_value(),
        target.session_token.get_secret_value() if target.session_token else None,
    )
