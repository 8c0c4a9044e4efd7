"""Who may call: one decision per request, free of I/O and of the clock."""

import hmac
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from exporter.config.values import Secret
from exporter.web.toolkit import RateLimit, WebConfig

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BASIC = 'Basic realm="r2-exporter", charset="UTF-8"'
BEARER = 'Bearer realm="r2-exporter"'


class Proof(Enum):
    """What the Authorization header of a request turned out to be."""

    ABSENT = "absent"
    WRONG = "wrong"
    LOGIN = "login"
    TOKEN = "token"  # noqa: S105 - a kind of credential, not one


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The rules in force. `loopback_only` says that no listen address can be reached from outside."""

    loopback_only: bool
    token: Secret | None = None
    users: Mapping[str, Secret] = field(default_factory=dict)
    client_sans: frozenset[str] = frozenset()
    trusted_origins: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None

    def __post_init__(self) -> None:
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("the API token is empty")

    @classmethod
    def of(
        cls,
        web: WebConfig,
        *,
        listen_hosts: Collection[str],
        token: Secret | None = None,
        trusted_origins: Iterable[str] = (),
    ) -> "AccessPolicy":
        """The policy of a web config; `listen_hosts` are the hosts of all listen addresses, without ports.

        Raises ValueError for an empty token.
        """
        return cls(
            loopback_only=bool(listen_hosts) and all(map(is_loopback, listen_hosts)),
            token=token,
            users=web.basic_auth_users,
            client_sans=web.client_sans,
            trusted_origins=frozenset(trusted_origins),
            headers=web.http_server_config.headers.as_mapping(),
            rate_limit=web.rate_limit if web.rate_limit.interval else None,
        )


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a decision needs of a request. Header values are as sent, None where absent."""

    method: str
    proof: Proof = Proof.ABSENT
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    certificate_sans: frozenset[str] = frozenset()


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
    """Whether `request` may go on. Reads need the login where there is one; writes the login or the token."""
    if policy.client_sans and not policy.client_sans & request.certificate_sans:
        return Deny(
            403, "client_certificate_not_allowed", "No name of the client certificate is allowed here."
        )
    if request.method in READ_METHODS:
        return _decide_read(request, policy)
    if policy.token or policy.users:
        return _decide_write(request, policy)
    return _decide_open_write(request, policy)


def _decide_read(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if not policy.users or request.proof is Proof.LOGIN:
        return Allow()
    if request.proof is Proof.TOKEN:
        return _unauthorized("The API token is for writes; reads need the login.", BASIC)
    return _unauthorized(_rejection(request.proof, "This needs a login."), BASIC)


def _decide_write(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if request.proof is Proof.TOKEN:
        return Allow()
    if request.proof is Proof.LOGIN:
        # A browser sends a remembered login along with any site's request, a token never.
        return _forbidden_origin(request, policy) or Allow()
    ways = ["a login"] * bool(policy.users) + ["Authorization: Bearer with the API token"] * bool(
        policy.token
    )
    challenges = (BASIC,) * bool(policy.users) + (BEARER,) * bool(policy.token)
    return _unauthorized(_rejection(request.proof, f"Writes need {' or '.join(ways)}."), *challenges)


def _decide_open_write(request: RequestFacts, policy: AccessPolicy) -> Allow | Deny:
    if not policy.loopback_only:
        return Deny(
            403,
            "writes_disabled",
            "Writes are off: the exporter listens on more than loopback, and neither an API token nor a login"
            " is set. Set R2_EXPORTER_API_TOKEN, or api.token_file in exporter.yaml, or basic_auth_users in"
            " the file of --web.config.file.",
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


def _rejection(proof: Proof, need: str) -> str:
    return f"{need} The credentials sent are wrong." if proof is Proof.WRONG else need


def _unauthorized(message: str, *challenges: str) -> Deny:
    return Deny(401, "unauthorized", message, challenges)


def token_matches(sent: str, policy: AccessPolicy) -> bool:
    """Compares in constant time."""
    if policy.token is None:
        return False
    expected = policy.token.get_secret_value()
    return hmac.compare_digest(sent.encode(errors="surrogateescape"), expected.encode())


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


class TokenBucket:
    """Lets `burst` requests through at once and one more each `interval`. Counts in whole nanoseconds."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._interval = max(1, round(limit.interval * 1e9))
        self._tolerance = self._interval * (limit.burst - 1)
        self._full_at: int | None = None

    def wait(self, now: int) -> int:
        """Takes a token at monotonic time `now`: 0, or the nanoseconds until there is one to take."""
        full_at = now if self._full_at is None else max(self._full_at, now)
        if full_at - now > self._tolerance:
            return full_at - now - self._tolerance
        self._full_at = full_at + self._interval
        return 0
