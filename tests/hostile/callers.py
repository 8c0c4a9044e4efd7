"""Who may ask an exporter, and how one can be set up, by their rows and columns in docs/security.md."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import bcrypt
import trustme

from tests.running import Running, running, target, write

API, DEPLOY, GRAFANA = "token-of-the-api", "token-of-the-deployment", "token-of-the-dashboards"
HASHED = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
OURS, THEIRS = "https://dashboard.example.org", "https://elsewhere.example.org"
SECRETS = (API, DEPLOY, GRAFANA, HASHED)


def login(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"alice:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Caller:
    """What it sends along; `certificate` is a name, or the authority that issued one in vain."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    certificate: str | None = None

    def shows(self, certificate: str) -> "Caller":
        return replace(self, name=f"{self.name} with {certificate}", certificate=certificate)


LOGIN = Caller("login", login("correct horse"))
READER, WRITER = Caller("reader", bearer(GRAFANA)), Caller("writer", bearer(DEPLOY))
NOBODY = (
    Caller("nobody"),
    Caller("wrong token", bearer("no-such-token")),
    Caller("wrong login", login("wrong")),
    Caller("junk", {"Authorization": "Negotiate \xff"}),
)
CROSS_SITE = {"Origin": THEIRS, "Sec-Fetch-Site": "cross-site"}
FORM, OLD_BROWSER = Caller("form", CROSS_SITE), Caller("old browser", {"Origin": THEIRS})
ASKING = {"Access-Control-Request-Method": "PUT"}
PREFLIGHT = Caller("preflight", {"Origin": OURS, **ASKING})

REMEMBERED = (
    Caller("form with login", CROSS_SITE | LOGIN.headers),
    Caller("old browser with login", {"Origin": THEIRS} | LOGIN.headers),
)

ALONE = {
    "nothing, or wrong credentials": NOBODY,
    "a token of scope `read`": (READER,),
    "a token of scope `write`": (WRITER, Caller("token of the environment", bearer(API))),
    "the login": (LOGIN,),
    "nothing, under a name that is not a loopback one": (
        Caller("rebound name", {"Host": "evil.example.org"}),
        Caller("rebound page", {"Host": "evil.example.org", "Origin": "http://evil.example.org"}),
    ),
    "another site's page": (FORM, OLD_BROWSER, Caller("preflight of another", {"Origin": THEIRS, **ASKING})),
    "another site's page, with the login that the browser remembers": REMEMBERED,
    "a page of `api.cors_origins`, with the login": (
        Caller("our page", {"Origin": OURS, "Sec-Fetch-Site": "cross-site"} | LOGIN.headers),
    ),
    "its preflight": (PREFLIGHT,),
}
CERTIFIED = {
    "no certificate, or one of another authority": (
        *(Caller("nobody"), WRITER, LOGIN),
        *(Caller("nobody").shows("forged"), LOGIN.shows("forged")),
    ),
    "a certificate of a name that is not allowed": tuple(
        each.shows("wrong.example.org") for each in (*NOBODY, WRITER, LOGIN, FORM, PREFLIGHT)
    ),
    "an allowed certificate": tuple(each.shows("good.example.org") for each in NOBODY),
    "an allowed certificate and a token of scope `read`": (READER.shows("good.example.org"),),
    "an allowed certificate and a token of scope `write`": (WRITER.shows("good.example.org"),),
    "an allowed certificate and the login": (LOGIN.shows("good.example.org"),),
    "an allowed certificate, from another site's page": (
        FORM.shows("good.example.org"),
        OLD_BROWSER.shows("good.example.org"),
    ),
    "an allowed certificate and the login that the browser remembers, from another site's page": tuple(
        each.shows("good.example.org") for each in REMEMBERED
    ),
    "an allowed certificate, with the preflight": (PREFLIGHT.shows("good.example.org"),),
}


@dataclass(frozen=True)
class Setup:
    """Where it listens, which tokens there are, and what the web config asks for."""

    host: str = "0.0.0.0"
    tokens: str = ""
    login: bool = False
    certificates: str = ""


TOKENS = "api deploy grafana"
ALLOWED = "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [good.example.org]"
SETUPS = {
    "nothing set, loopback alone": Setup(host="127.0.0.1"),
    "nothing set, beyond loopback": Setup(),
    "tokens": Setup(tokens=TOKENS),
    "tokens of scope `read` alone": Setup(tokens="grafana"),
    "a login": Setup(login=True),
    "a login and tokens": Setup(tokens=TOKENS, login=True),
    "certificates": Setup(certificates=ALLOWED),
    "certificates and tokens": Setup(tokens=TOKENS, certificates=ALLOWED),
    "certificates and a login": Setup(login=True, certificates=ALLOWED),
    "certificates, a login and tokens": Setup(tokens=TOKENS, login=True, certificates=ALLOWED),
}
AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


@asynccontextmanager
async def exporter_of(folder: Path, setup: Setup) -> AsyncIterator[Running]:
    named = []
    for name, token, scope in (("deploy", DEPLOY, "write"), ("grafana", GRAFANA, "read")):
        (folder / name).write_text(token)
        named += [{"name": name, "token_file": name, "scope": scope}] if name in setup.tokens else []
    sections = [f"basic_auth_users: {{alice: {HASHED}}}"] if setup.login else []
    if setup.certificates:
        ours = AUTHORITY.issue_cert("127.0.0.1")
        ours.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
        files = "cert_file: server.pem, key_file: server.pem, client_ca_file: ca.pem"
        sections.append(f"tls_server_config: {{{files}, {setup.certificates}}}")
    (web_config := folder / "web.yml").write_text("\n".join(sections) or "{}")
    media = target("media", "http://127.0.0.1:1", "bucket")
    config = write(folder / "exporter.yaml", media, api={"tokens": named, "cors_origins": [OURS]})
    env = {"R2_EXPORTER_API_TOKEN": API} if "api" in setup.tokens else {}
    async with running(config, listen=[(setup.host, 0)], web_config=web_config, env=env) as exporter:
        exporter.url = exporter.url.replace("0.0.0.0", "127.0.0.1")
        yield exporter


def session(certificate: str | None) -> aiohttp.ClientSession:
    tls = ssl.create_default_context()
    AUTHORITY.configure_trust(tls)
    if certificate is not None:
        authority = STRANGER if certificate == "forged" else AUTHORITY
        authority.issue_cert(certificate.replace("forged", "good.example.org")).configure_cert(tls)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))
