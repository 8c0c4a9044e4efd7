import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import structlog
import trustme
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.document import ConfigError
from exporter.web.access import AccessPolicy
from exporter.web.auth import protect
from exporter.web.tls import ServerTls
from exporter.web.toolkit import WebConfig, load_web_config, parse_web_config

HASH = bcrypt.hashpw(b"hunter22", b"$2b$04$" + b"abcdefghijklmnopqrstuu").decode()  # the same at each start
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key"
MUTUAL = f"{TLS}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"


def write_pair(folder: Path, leaf: trustme.LeafCert, name: str = "server") -> None:
    (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    (folder / f"{name}.key").write_bytes(leaf.private_key_pem.bytes())


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, ca: trustme.CA) -> Path:
    write_pair(tmp_path, ca.issue_cert("127.0.0.1", "localhost"))
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def load(folder: Path, text: str) -> WebConfig:
    file = folder / "web.yml"
    file.write_text(text)
    return load_web_config(file, {})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [str(problem) for problem in caught.value.problems]


def problem(folder: Path, text: str) -> str:
    (only,) = problems(folder, text)
    return only


def indented(pem: bytes) -> str:
    return "".join(f"    {line}\n" for line in pem.decode().splitlines())


# --- the file ---


def test_empty_file_means_plain_http_open_to_all(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config.tls is None
    assert not config.basic_auth_users
    assert config.http_server_config.headers.as_mapping() == {}
    assert config.rate_limit.interval == 0


def test_all_sections(folder: Path) -> None:
    config = load(
        folder,
        f"""
{MUTUAL}, client_allowed_sans: [prometheus.example.org, "::0001"], min_version: TLS13}}
http_server_config:
  http2: true
  headers:
    {{X-Frame-Options: deny, X-XSS-Protection: "", X-Content-Type-Options: "",
     Content-Security-Policy: "default-src 'self'"}}
basic_auth_users: {{alice: {HASH}}}
rate_limit: {{interval: 1m0.5s, burst: 20}}
""",
    )
    assert config.tls is not None
    assert config.tls.cert_file == str(folder / "server.pem")
    assert config.client_sans == {"prometheus.example.org", "::1"}
    assert config.http_server_config.headers.as_mapping() == {
        "X-Frame-Options": "deny",
        "Content-Security-Policy": "default-src 'self'",
    }
    assert config.basic_auth_users["alice"].get_secret_value() == HASH
    assert (config.rate_limit.interval, config.rate_limit.burst) == (60.5, 20)
    assert HASH not in repr(config)


def test_every_error_at_once_each_with_its_line(folder: Path) -> None:
    found = problems(
        folder,
        """tls_server_config:
  cert_file: nowhere.pem
  key_file: server.key
  client_ca_file: ca.pem
http_server_config:
  headers:
    X-Frame-Options: allow
    X-Frame-Option: deny
basic_auth_users:
  alice: hunter22
rate_limit: {interval: often}
basic_auth_user: {}
""",
    )
    assert len(found) == 7
    assert [text.partition(":")[0] for text in found] == [f"line {n}" for n in (2, 4, 7, 8, 10, 11, 12)]
    assert "nowhere.pem" in found[0]
    assert 'did you mean "X-Frame-Options"' in found[3]
    assert 'did you mean "basic_auth_users"' in found[6]
    assert "hunter22" not in "".join(found)


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_bcrypt_prefixes(tmp_path: Path, prefix: str) -> None:
    assert load(tmp_path, f"basic_auth_users: {{a: {prefix}{HASH[4:]}}}").basic_auth_users


@pytest.mark.parametrize(
    "value", ["hunter22", "$1$abc$def", HASH[:-1], "$2x$" + HASH[4:], "$2b$03" + HASH[6:]]
)
def test_anything_but_bcrypt_is_refused_unquoted(tmp_path: Path, value: str) -> None:
    message = problem(tmp_path, f"basic_auth_users: {{a: '{value}'}}")
    assert "bcrypt" in message
    assert value not in message


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("client_auth_type: RequestClientCert", "client_auth_type", "VerifyClientCertIfGiven"),
        ("client_auth_type: RequireAnyClientCert", "client_auth_type", "RequireAndVerifyClientCert"),
        ("client_auth_type: Whatever", "client_auth_type", "expected one of"),
        ("client_auth_type: RequireAndVerifyClientCert", "client_auth_type", "client_ca_file"),
        ("client_ca_file: ca.pem", "client_ca_file", "client_auth_type"),
        ("client_allowed_sans: [a]", "client_allowed_sans", "RequireAndVerifyClientCert"),
        ("cert: x", "cert", "both"),
        ("min_version: TLS10", "min_version", "RFC 8996"),
        ("max_version: SSL3", "max_version", "TLS12 or TLS13"),
        ("min_version: TLS13, max_version: TLS12", "min_version", "above"),
        ("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "cipher_suites[0]", "expected a suite"),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256], min_version: TLS13", "cipher_suites", "all of"),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]",
            "cipher_suites",
            "TLS 1.2",
        ),
        ("curve_preferences: [X25519, CurveP256]", "curve_preferences", "one curve"),
        ("curve_preferences: [CurveP1]", "curve_preferences[0]", "expected one of"),
    ],
)
def test_what_cannot_be_done_is_refused(folder: Path, section: str, key: str, words: str) -> None:
    message = problem(folder, f"{TLS}, {section}}}")
    assert message.startswith(f"line 1: tls_server_config.{key}: ")
    assert words in message


@pytest.mark.parametrize("given", ["cert_file: server.pem", "min_version: TLS13", "key_file: ''"])
def test_a_tls_section_without_its_pair_is_refused(folder: Path, given: str) -> None:
    assert "is needed" in "".join(problems(folder, f"tls_server_config: {{{given}}}"))


def test_files_are_checked_for_what_they_hold(folder: Path, ca: trustme.CA) -> None:
    good_key = (folder / "server.key").read_bytes()
    (folder / "server.key").write_bytes(ca.issue_cert("other.example.org").private_key_pem.bytes())
    assert "key_file: the key does not belong to the certificate" in problem(folder, TLS + "}")
    (folder / "server.key").write_bytes(good_key[: len(good_key) // 2])
    assert "key_file: holds no usable private key" in problem(folder, TLS + "}")
    private = serialization.load_pem_private_key(good_key, None)
    (folder / "server.key").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    assert "key_file: the key is encrypted" in problem(folder, TLS + "}")
    (folder / "server.key").write_bytes(good_key)
    (folder / "ca.pem").write_text("junk")
    assert "client_ca_file: holds no usable certificate" in problem(folder, MUTUAL + "}")
    (folder / "server.pem").write_text("junk")
    assert "cert_file: holds no usable certificate" in problem(folder, TLS + "}")


@pytest.mark.parametrize("value", ["1", "-1s", "1 s", "s", "1d", "1e3s", "9" * 40 + "s"])
def test_bad_intervals(tmp_path: Path, value: str) -> None:
    assert "expected a duration" in problem(tmp_path, f"rate_limit: {{interval: '{value}', burst: 1}}")


def test_a_rate_limit_that_serves_nobody_is_refused(tmp_path: Path) -> None:
    assert "burst" in problem(tmp_path, "rate_limit: {interval: 1s}")


def test_header_values_cannot_break_the_line(tmp_path: Path) -> None:
    text = 'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nSet-Cookie: x"}}'
    assert "one line" in problem(tmp_path, text)


def test_a_user_name_with_a_colon_could_never_log_in(tmp_path: Path) -> None:
    assert "colon" in problem(tmp_path, f"basic_auth_users: {{'a:b': {HASH}}}")


@given(st.text() | st.text("tls_server_config:{}[]certfile, \n-$'\""))
def test_random_text_is_a_config_or_a_list_of_problems(text: str) -> None:
    def outcome() -> object:
        try:
            return parse_web_config("web.yml", text, Path("/nowhere"), {})
        except ConfigError as error:
            return error.problems

    assert outcome()


# --- the handshake ---


@asynccontextmanager
async def serving(context: ServerTls, config: WebConfig) -> AsyncIterator[str]:
    """A server on a free port; yields its URL."""
    app = web.Application()
    policy = AccessPolicy.of(config, listen_hosts=["127.0.0.1"])
    protect(app, lambda: policy)

    async def say_how(request: web.Request) -> web.Response:
        secured = request.get_extra_info("ssl_object")
        return web.Response(text=f"{secured.version()} {secured.cipher()[0]}")

    app.router.add_get("/", say_how)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def served(config: WebConfig) -> ServerTls:
    assert config.tls is not None
    return ServerTls.listening(config.tls)


def trusting(*authorities: trustme.CA, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for authority in authorities:
        authority.configure_trust(context)
    if leaf is not None:
        leaf.configure_cert(context)
    return context


async def get(url: str, context: ssl.SSLContext) -> tuple[int, str]:
    """Over a fresh connection: the status, and the TLS version and cipher as the server saw them."""
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        return response.status, await response.text()


async def refused(url: str, context: ssl.SSLContext) -> bool:
    try:
        await get(url, context)
    except aiohttp.ClientError:
        return True
    return False


def limited(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.maximum_version = version
    return context


async def test_client_certificates_are_required_and_verified(folder: Path, ca: trustme.CA) -> None:
    stranger = trustme.CA()
    config = load(folder, MUTUAL + "}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca, leaf=ca.issue_cert("client.example.org"))))[0] == 200
        assert await refused(url, trusting(ca))
        assert await refused(url, trusting(ca, leaf=stranger.issue_cert("client.example.org")))


async def test_without_a_ca_only_the_system_s_authorities_count(
    folder: Path, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, stranger = trustme.CA(), trustme.CA()
    system.cert_pem.write_to_path(folder / "system.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "system.pem"))
    config = load(folder, TLS + ", client_auth_type: VerifyClientCertIfGiven}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca)))[0] == 200
        assert (await get(url, trusting(ca, leaf=system.issue_cert("client"))))[0] == 200
        assert await refused(url, trusting(ca, leaf=stranger.issue_cert("client")))


async def test_client_certificates_if_given(folder: Path, ca: trustme.CA) -> None:
    stranger = trustme.CA()
    config = load(folder, MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven") + "}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca)))[0] == 200
        assert await refused(url, trusting(ca, leaf=stranger.issue_cert("client.example.org")))


@pytest.mark.parametrize(
    "names", [["good.example.org"], ["::1"], ["10.1.2.3"], ["x@example.org"], ["other", "good.example.org"]]
)
async def test_an_allowed_name_is_let_in(folder: Path, ca: trustme.CA, names: list[str]) -> None:
    sans = 'client_allowed_sans: [good.example.org, "0:0::1", 10.1.2.3, x@example.org]'
    config = load(folder, f"{MUTUAL}, {sans}}}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca, leaf=ca.issue_cert(*names))))[0] == 200


async def test_a_verified_certificate_of_another_name_is_turned_away(folder: Path, ca: trustme.CA) -> None:
    config = load(folder, f"{MUTUAL}, client_allowed_sans: [good.example.org]}}")
    bad = ca.issue_cert("evil.example.org", common_name="good.example.org")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca, leaf=bad)))[0] == 403


async def test_min_and_max_version(folder: Path, ca: trustme.CA) -> None:
    config = load(folder, TLS + ", min_version: TLS13}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca)))[1].startswith("TLSv1.3 ")
        assert await refused(url, limited(trusting(ca), ssl.TLSVersion.TLSv1_2))
    config = load(folder, TLS + ", max_version: TLS12}")
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca)))[1].startswith("TLSv1.2 ")


async def test_the_chosen_suite_and_curve_are_served(folder: Path, ca: trustme.CA) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = load(
        folder, f"{TLS}, cipher_suites: [{suite}], max_version: TLS12, curve_preferences: [CurveP384]}}"
    )
    only_p256 = trusting(ca)
    only_p256.set_ecdh_curve("prime256v1")
    async with serving(served(config), config) as url:
        assert await get(url, trusting(ca)) == (200, "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384")
        assert await refused(url, only_p256)


@pytest.mark.parametrize(
    ("server_decides", "chosen"),
    [("true", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("false", "ECDHE-ECDSA-AES128-GCM-SHA256")],
)
async def test_whose_order_of_suites_counts(
    folder: Path, ca: trustme.CA, server_decides: str, chosen: str
) -> None:
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    config = load(
        folder,
        f"{TLS}, cipher_suites: [{suites}], max_version: TLS12, "
        f"prefer_server_cipher_suites: {server_decides}}}",
    )
    client = trusting(ca)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    async with serving(served(config), config) as url:
        assert await get(url, client) == (200, f"TLSv1.2 {chosen}")


async def test_certificate_key_and_ca_inline(tmp_path: Path, ca: trustme.CA) -> None:
    leaf = ca.issue_cert("127.0.0.1")
    config = load(
        tmp_path,
        "tls_server_config:\n"
        f"  cert: |\n{indented(leaf.cert_chain_pems[0].bytes())}"
        f"  key: |\n{indented(leaf.private_key_pem.bytes())}"
        f"  client_ca: |\n{indented(ca.cert_pem.bytes())}"
        "  client_auth_type: RequireAndVerifyClientCert\n",
    )
    assert "PRIVATE" not in repr(config)
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca, leaf=ca.issue_cert("client"))))[0] == 200
        assert await refused(url, trusting(ca))


async def renewal(folder: Path, ca: trustme.CA) -> None:
    """A renewed pair is served at the next handshake, a broken one is not and is logged once."""
    config = load(folder, TLS + "}")
    renewed = trustme.CA()
    async with serving(served(config), config) as url:
        assert (await get(url, trusting(ca)))[0] == 200
        write_pair(folder, renewed.issue_cert("127.0.0.1"))
        assert (await get(url, trusting(renewed)))[0] == 200
        assert await refused(url, trusting(ca))
        with structlog.testing.capture_logs() as logged:
            (folder / "server.key").write_bytes(trustme.CA().issue_cert("a").private_key_pem.bytes())
            assert (await get(url, trusting(renewed)))[0] == 200
            assert (await get(url, trusting(renewed)))[0] == 200
        (event,) = logged
        assert event["log_level"] == "warning"
        assert event["error"] == "key_file: the key does not belong to the certificate"
        (folder / "server.pem").unlink()
        assert (await get(url, trusting(renewed)))[0] == 200
        write_pair(folder, ca.issue_cert("127.0.0.1"))
        assert (await get(url, trusting(ca)))[0] == 200


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_renewal_on_both_event_loops(
    folder: Path, ca: trustme.CA, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(renewal(folder, ca))


async def test_a_renewed_client_ca_counts_at_the_next_handshake(folder: Path, ca: trustme.CA) -> None:
    other = trustme.CA()
    config = load(folder, MUTUAL + "}")
    old_client, new_client = trusting(ca, leaf=ca.issue_cert("a")), trusting(ca, leaf=other.issue_cert("a"))
    async with serving(served(config), config) as url:
        assert (await get(url, old_client))[0] == 200
        other.cert_pem.write_to_path(folder / "ca.pem")
        assert (await get(url, new_client))[0] == 200
        assert await refused(url, old_client)


async def test_use_changes_the_settings_of_a_listening_server(folder: Path, ca: trustme.CA) -> None:
    config = load(folder, TLS + "}")
    context = served(config)
    async with serving(context, config) as url:
        assert (await get(url, trusting(ca)))[0] == 200
        stricter = load(folder, MUTUAL + "}").tls
        assert stricter is not None
        context.use(stricter)
        assert await refused(url, trusting(ca))
        assert (await get(url, trusting(ca, leaf=ca.issue_cert("a"))))[0] == 200
