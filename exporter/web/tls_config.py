"""The `tls_server_config` section of a web config file, and what in it contradicts itself."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from exporter.config.document import Section
from exporter.config.explain import misfit
from exporter.config.values import Secret

TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
# Go's names of its secure suites (https://pkg.go.dev/crypto/tls#CipherSuites) as OpenSSL calls them.
TLS12_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
REQUIRED = "RequireAndVerifyClientCert"
VERIFY_MODES = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    REQUIRED: ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


def _known_auth_type(name: str) -> str:
    if name in _UNVERIFIED:
        raise misfit(
            "a client certificate that nobody verifies proves nothing and Python's ssl does not ask for "
            "one; use VerifyClientCertIfGiven or RequireAndVerifyClientCert"
        )
    if name not in VERIFY_MODES:
        raise misfit(f"expected one of {', '.join(VERIFY_MODES)}")
    return name


def _known_version(name: str) -> str:
    if name in ("TLS10", "TLS11"):
        raise misfit("TLS below 1.2 is retired (RFC 8996) and OpenSSL refuses it; use TLS12 or TLS13")
    if name not in VERSIONS:
        raise misfit("expected TLS12 or TLS13")
    return name


def _known_suite(name: str) -> str:
    if name not in TLS12_SUITES and name not in TLS13_SUITES:
        raise misfit("expected a suite of https://pkg.go.dev/crypto/tls#CipherSuites")
    return name


TlsVersion = Annotated[str, AfterValidator(_known_version)]


class TlsServerConfig(Section):
    """`tls_server_config` as exporter-toolkit names it; file names are relative to the web config file.

    Spec: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
    """

    cert: str = ""
    key: Secret | None = None
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: Annotated[str, AfterValidator(_known_auth_type)] = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_known_suite)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = Field(
        default=(), max_length=len(CURVES)
    )

    def in_folder(self, folder: Path) -> "TlsServerConfig":
        """The same with its file names joined to `folder`; absolute names stay."""
        names = {name: getattr(self, name) for name in ("cert_file", "key_file", "client_ca_file")}
        return self.model_copy(update={name: str(folder / file) for name, file in names.items() if file})

    @property
    def files(self) -> dict[str, str]:
        """The files it reads, by key."""
        names = {
            "cert_file": self.cert_file,
            "key_file": self.key_file,
            "client_ca_file": self.client_ca_file,
        }
        return {name: file for name, file in names.items() if file}


def section_problems(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    """Key and message of each contradiction in the section and each file of it that cannot be read."""
    yield from _combination_problems(tls)
    yield from _protocol_problems(tls)
    yield from _file_problems(tls)


def _combination_problems(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    key = tls.key.get_secret_value() if tls.key else ""
    for name, inline, file in (("cert", tls.cert, tls.cert_file), ("key", key, tls.key_file)):
        if not inline and not file:
            yield "", f"{name}_file or {name} is needed"
    for name, inline, file in (
        ("cert", tls.cert, tls.cert_file),
        ("key", key, tls.key_file),
        ("client_ca", tls.client_ca, tls.client_ca_file),
    ):
        if inline and file:
            yield name, f"{name} and {name}_file cannot both be set"
    has_ca = bool(tls.client_ca or tls.client_ca_file)
    if has_ca and tls.client_auth_type == "NoClientCert":
        yield (
            "client_ca_file" if tls.client_ca_file else "client_ca",
            "has no effect without client_auth_type",
        )
    if not has_ca and tls.client_auth_type == REQUIRED and not tls.client_allowed_sans:
        yield (
            "client_auth_type",
            "needs client_ca_file or client_ca, or any certificate of a public authority would be let in",
        )
    if tls.client_allowed_sans and tls.client_auth_type != REQUIRED:
        yield (
            "client_allowed_sans",
            "needs client_auth_type: RequireAndVerifyClientCert, or a client gets in without a certificate",
        )


def _protocol_problems(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    if VERSIONS[tls.min_version] > VERSIONS[tls.max_version]:
        yield "min_version", f"is above max_version {tls.max_version}"
    asked = set(tls.cipher_suites)
    if asked & TLS13_SUITES and not asked >= TLS13_SUITES and tls.max_version == "TLS13":
        yield (
            "cipher_suites",
            "Python's ssl cannot choose among the suites of TLS 1.3: "
            f"list all of {', '.join(sorted(TLS13_SUITES))}, or none",
        )
    if asked and not asked & TLS12_SUITES.keys() and tls.min_version == "TLS12":
        yield "cipher_suites", "holds no suite for TLS 1.2; add one, or set min_version: TLS13"
    if len(tls.curve_preferences) > 1:
        yield (
            "curve_preferences",
            "Python's ssl takes one curve, not an order of several; keep the first alone",
        )


def _file_problems(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    for name, file in tls.files.items():
        try:
            Path(file).read_bytes()
        except (OSError, ValueError) as error:
            yield name, unreadable(file, error)


def unreadable(file: str, error: Exception) -> str:
    return f"cannot read {file}: {getattr(error, 'strerror', None) or error}"
