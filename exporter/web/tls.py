"""The server's TLS context, made of the web config and renewed when its files change."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import structlog

from exporter.web.tls_config import (
    CURVES,
    TLS12_SUITES,
    VERIFY_MODES,
    VERSIONS,
    TlsServerConfig,
    section_problems,
    unreadable,
)

log = structlog.get_logger(__name__)


class TlsUnusableError(ValueError):
    """The section's `key` cannot be served; the message says why and never shows a private key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def tls_problems(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    """Key and message of everything that keeps this section from being served, files included."""
    broken = [*section_problems(tls)]
    if not broken:
        try:
            server_context(tls)
        except TlsUnusableError as error:
            broken.append((error.key, error.message))
    yield from broken


def server_context(tls: TlsServerConfig) -> ssl.SSLContext:
    """A fresh context of this section, its files read now. Raises TlsUnusableError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    context.verify_mode = VERIFY_MODES[tls.client_auth_type]
    # Go takes any certificate of the pool as an anchor, an intermediate one too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session would skip verifying the client against a renewed CA.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := [TLS12_SUITES[name] for name in tls.cipher_suites if name in TLS12_SUITES]:
        _choose_suites(context, suites)
    if tls.curve_preferences:
        context.set_ecdh_curve(CURVES[tls.curve_preferences[0]])
    _load_pair(context, tls)
    if tls.client_ca_file or tls.client_ca:
        _load_client_ca(context, tls)
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def _choose_suites(context: ssl.SSLContext, suites: list[str]) -> None:
    with suppress(ssl.SSLError):  # raised where not one is known, which the comparison says better
        context.set_ciphers(":".join(suites))
    if missing := set(suites) - {cipher["name"] for cipher in context.get_ciphers()}:
        raise TlsUnusableError("cipher_suites", f"this OpenSSL does not have {', '.join(sorted(missing))}")


def _load_pair(context: ssl.SSLContext, tls: TlsServerConfig) -> None:
    cert_name = "cert_file" if tls.cert_file else "cert"
    key_name = "key_file" if tls.key_file else "key"

    def refuse_passphrase() -> str:  # OpenSSL would ask for it on the terminal
        raise TlsUnusableError(key_name, "the key is encrypted; store it without a passphrase")

    with ExitStack() as stack:
        try:
            cert = tls.cert_file or stack.enter_context(_as_file(tls.cert))
            key_text = tls.key.get_secret_value() if tls.key else ""
            key = tls.key_file or stack.enter_context(_as_file(key_text))
            context.load_cert_chain(cert, key, password=refuse_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TlsUnusableError(key_name, "the key does not belong to the certificate") from None
            if error.reason:
                raise TlsUnusableError(cert_name, _words(error)) from None
            if _holds_certificate(cert):
                raise TlsUnusableError(key_name, "holds no usable private key in PEM form") from None
            raise TlsUnusableError(cert_name, "holds no usable certificate in PEM form") from None
        except OSError as error:
            raise TlsUnusableError(cert_name, unreadable(error.filename or tls.cert_file, error)) from None


def _load_client_ca(context: ssl.SSLContext, tls: TlsServerConfig) -> None:
    try:
        context.load_verify_locations(cafile=tls.client_ca_file or None, cadata=tls.client_ca or None)
    except (ssl.SSLError, ValueError):  # ValueError: inline text that is not ASCII
        name = "client_ca_file" if tls.client_ca_file else "client_ca"
        raise TlsUnusableError(name, "holds no usable certificate in PEM form") from None
    except OSError as error:
        raise TlsUnusableError("client_ca_file", unreadable(tls.client_ca_file, error)) from None


@contextmanager
def _as_file(pem: str) -> Iterator[str]:
    """OpenSSL reads certificates and keys by path only: a private file that is gone at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        yield file.name


def _holds_certificate(file: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except OSError:
        return False
    return True


def _words(error: ssl.SSLError) -> str:
    return f"OpenSSL refuses it: {(error.reason or str(error)).replace('_', ' ').lower()}"


class ServerTls(ssl.SSLContext):
    """The context to listen with: each new connection gets the settings and certificates of now.

    asyncio and uvloop ask the listening context for one TLS object a connection (`wrap_bio`),
    which is where files renewed on disk and settings changed by `use` come in. A renewed pair
    that cannot be loaded is logged once and the last good one stays. Make it with `listening`.
    """

    _tls: TlsServerConfig
    _current: ssl.SSLContext
    _seen: tuple[object, ...]

    @classmethod
    def listening(cls, tls: TlsServerConfig) -> "ServerTls":
        """Raises TlsUnusableError if a context cannot be built of `tls`."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.use(tls)
        return context

    def use(self, tls: TlsServerConfig) -> None:
        """Serve new connections by `tls`. Raises TlsUnusableError and then changes nothing."""
        seen = _signature(tls)
        self._current = server_context(tls)
        self._tls, self._seen = tls, seen

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self._renew()
        return self._current.wrap_bio(*args, **kwargs)

    def _renew(self) -> None:
        seen = _signature(self._tls)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._current = server_context(self._tls)
        except TlsUnusableError as error:
            log.warning("renewed TLS files are unusable, keeping the last good ones", error=str(error))
        else:
            log.info("TLS files renewed", **self._tls.files)


def _signature(tls: TlsServerConfig) -> tuple[object, ...]:
    """What changes when a file is written anew or swapped through a symlink."""

    def one(file: str) -> tuple[int, ...] | None:
        try:
            stat = os.stat(file)
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev

    return tuple(one(file) for file in tls.files.values())
