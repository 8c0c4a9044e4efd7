"""What several test files share: the event loops, Hypothesis' profile and a certificate authority."""

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping

import pytest
import trustme
import uvloop
from hypothesis import settings

from exporter.s3.client import tls_context

settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop, and uvloop too where a test asks for both by `loop_factories`."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests recorded of themselves: how to repeat one that failed, and in a soak how much was tried."""
    for outcome in ("failed", "passed") if "R2_EXPORTER_SOAK" in os.environ else ("failed",):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" and report.user_properties:
                recorded = ", ".join(f"{name}={value}" for name, value in report.user_properties)
                terminalreporter.write_line(f"{report.nodeid}: {recorded}")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A client context that trusts `authority` alone."""
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return tls_context(str(bundle))


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    """A server context for 127.0.0.1 and localhost."""
    return server_context(authority.issue_cert("127.0.0.1", "localhost"))
