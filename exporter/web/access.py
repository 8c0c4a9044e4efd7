"""Who may call: one decision per request, free of I/O and of the clock."""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from exporter.config import ApiToken, Secret
from exporter.web.pace import WRITES
from exporter.web.tls_config import REQUIRED
from exporter.web.toolkit import RateLimit, WebConfig

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BASIC = 'Basic realm="r2-exporter", charset="UTF-8"'
BEARER = 'Bearer realm="r2-exporter"'
# RFC 6750 section 3.1
TOO_NARROW = f'{BEARER}, error="insufficient_scope"'
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Proof(Enum):
    """What the Authorization header of a request turned out to be."""

    ABSENT = "absent"
    WRONG = "wrong"
    LOGIN = "login"
    READ_TOKEN = "token to read"  # noqa: S105 - a kind of credential, not one
    WRITE_TOKEN = "token to write"  # noqa: S105 - the same


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The rules in force.

    `loopback_only` says that no listen address can be reached from outside, `certificates_only` that nobody
    gets a connection without a certificate of our own authority or of an allowed name. Pages of
    `trusted_origins` may call the API with the reader's login, those of every other site only if
    `any_origin`, and without.
    """

    loopback_only: bool
    tokens: tuple[ApiToken, ...] = ()
    users: Mapping[str, Secret] = field(default_factory=dict)
    certificates_only: bool = False
    client_sans: frozenset[str] = frozenset()
    trusted_origins: frozenset[str] = frozenset()
    any_origin: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    write_limit: RateLimit = WRITES

    def __post_init__(self) -> None:
        if not all(token.token.get_secret_value() for token in self.tokens):
            raise ValueError("an API token is empty")

    @classmethod
    def of(
        cls,
        web: WebConfig,
        *,
        listen_hosts: Collection[str],
        tokens: Iterable[ApiToken] = (),
        cors_origins: Collection[str] = (),
    ) -> "AccessPolicy":
        """The policy of a web config; `listen_hosts` are the hosts of all listen addresses, without ports.

        `cors_origins` may hold `*`. Raises ValueError for an empty token.
        """
        return cls(
            loopback_only=bool(listen_hosts) and all(map(is_loopback, listen_hosts)),
            tokens=tuple(tokens),
            users=web.basic_auth_users,
            certificates_only=web.tls_server_config.client_auth_type == REQUIRED,
            client_sans=web.client_sans,
            trusted_origins=frozenset(canonical_origin(each) for each in cors_origins if each != "*"),
            any_origin="*" in cors_origins,
            headers=web.http_server_config.headers.as_mapping(),
            rate_limit=web.rate_limit if web.rate_limit.interval else None,
        )

    @property
    def takes_no_writes(self) -> bool:
        """Whether every write is refused, for nobody could prove that he may."""
        return not (self.tokens or self.users or self.loopback_only or self.certificates_only)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a decision needs of a request. Header values are as sent, None where absent.

    `preflight` is what a browser asks for a page that may call, before it does. `certificate_sans` are the
    names of the client certificate, None where none was verified on this connection.
    """

    method: str
    proof: Proof = Proof.ABSENT
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    preflight: bool = False
    certificate_sans: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """The request goes on to its handler."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The answer instead: `challenges` are the WWW-Authenticate values RFC 9110 section 15.5.2 asks for."""

    status: int
    code: str
    message: str
    challenges: tuple[str, ...] = ()


def decide(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    """Whether `request` may go on. Where there is a login, reads need it or a token; writes always do."""
    if policy.client_sans and not policy.client_sans & (request.certificate_sans or frozenset()):
        return Deny(
            403, "client_certificate_not_allowed", "No name of the client certificate is allowed here."
        )
    if request.preflight:  # which has neither a login nor a token to show
        return Allow()
    if request.method in READ_METHODS:
        return _decide_read(request, policy)
    if policy.tokens or policy.users:
        return _decide_write(request, policy)
    return _decide_open_write(request, policy)


def _decide_read(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if not policy.users or request.proof not in (Proof.ABSENT, Proof.WRONG):
        return Allow()
    return _unauthorized(request, policy, "This needs")


def _decide_write(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if request.proof is Proof.WRITE_TOKEN:
        return Allow()
    if request.proof is Proof.LOGIN:
        # A browser sends a remembered login along with any site's request, a token never.
        return _forbidden_origin(request, policy) or Allow()
    if request.proof is Proof.READ_TOKEN:
        message = "This API token has the scope read; writes need one with the scope write."
        return Deny(403, "insufficient_scope", message, (TOO_NARROW,))
    if not policy.users and not _may_write(policy.tokens):
        message = "Writes are off: no login is set, and every API token has the scope read."
        return Deny(403, "writes_disabled", message)
    return _unauthorized(request, policy, "Writes need")


def _decide_open_write(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if policy.certificates_only and request.certificate_sans is not None:
        # A browser shows the certificate along with any site's request, as it does a remembered login.
        return _forbidden_origin(request, policy) or Allow()
    if not policy.loopback_only:
        return Deny(
            403,
            "writes_disabled",
            "Writes are off: the exporter listens on more than loopback, and neither an API token nor a login"
            " is set. Set R2_EXPORTER_API_TOKEN, or api.token_file in exporter.yaml, or basic_auth_users or"
            " client_auth_type: RequireAndVerifyClientCert in the file of --web.config.file; or listen on"
            " loopback alone: --web.listen-address=127.0.0.1:9977.",
        )
    # A foreign name that resolves to 127.0.0.1 makes a browser see that site's pages as ours.
    if not is_loopback(host_of(request.host or "")):
        return Deny(
            403,
            "host_not_allowed",
            "Without an API token, writes are taken only under a loopback name such as localhost. "
            "Set R2_EXPORTER_API_TOKEN or api.token_file to write under another.",
        )
    return _forbidden_origin(request, policy) or Allow()


def _forbidden_origin(request: RequestFacts, policy: AccessPolicy) -> Deny | None:
    """Refuses what a browser sent from a page of another origin; other clients send neither header."""
    if request.origin in policy.trusted_origins or request.fetch_site in ("same-origin", "none"):
        return None
    if request.fetch_site is None and (request.origin is None or _same_authority(request)):
        return None
    return Deny(403, "cross_site_request", "A page of another site may not write here.")


def _same_authority(request: RequestFacts) -> bool:
    """Whether Origin names the host and port asked for; the scheme may differ behind a TLS proxy."""
    _, separator, authority = (request.origin or "").partition("://")
    return bool(separator) and authority.lower() == (request.host or "").lower()


def _may_write(tokens: Iterable[ApiToken]) -> bool:
    return any(token.scope == "write" for token in tokens)


def _unauthorized(request: RequestFacts, policy: AccessPolicy, need: str) -> Deny:
    """Says by what credentials it would work."""
    users, tokens = bool(policy.users), bool(policy.tokens)
    ways = ["a login"] * users + ["Authorization: Bearer with an API token"] * tokens
    wrong = " The credentials sent are wrong." if request.proof is Proof.WRONG else ""
    challenges = (BASIC,) * users + (BEARER,) * tokens
    return Deny(401, "unauthorized", f"{need} {' or '.join(ways)}.{wrong}", challenges)


def matching_token(sent: str, tokens: Iterable[ApiToken]) -> ApiToken | None:
    """The one of `tokens` that was sent. How long this takes tells nothing of any of them."""
    digest, found = _digest(sent), None
    for token in tokens:
        if hmac.compare_digest(digest, _digest(token.token.get_secret_value())):
            found = token
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def canonical_origin(origin: str) -> str:
    """As browsers send it: in lower case, without the port that the scheme has anyway."""
    scheme, _, _ = (lower := origin.lower()).partition("://")
    return lower.removesuffix(_DEFAULT_PORTS.get(scheme, "/"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, a literal address or `localhost`; "" and 0.0.0.0 are all."""
    name = host.strip("[]").lower()
    if name.rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_of(header: str) -> str:
    """The host of a Host header without its port; "" where there is none to be found."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
