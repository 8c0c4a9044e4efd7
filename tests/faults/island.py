"""A test that has network and name servers of its own, so that it can take them away.

It runs in another pytest, in namespaces where nothing is but a loopback: user_namespaces(7) lets everybody
make them where the system allows it.
"""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

ADDRESS = "192.0.2.1"
"""Where storages are, as long as the network is there. RFC 5737 keeps it for examples."""

NAME_SERVER = ("127.0.0.1", 53)
_INSIDE = "R2_EXPORTER_ISLAND"
_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")
_SETTLE = """
ip link set lo up
mount --bind "$0" /etc/resolv.conf
exec "$@"
"""


def on_an_island(test: Callable[[Path], Awaitable[None]]) -> Callable[..., object]:
    """Runs a test of a folder there; its report is that of the pytest inside."""
    if _INSIDE in os.environ:
        network(there=True)
        return test

    def outside(request: pytest.FixtureRequest, tmp_path: Path) -> None:
        names = tmp_path / "resolv.conf"
        names.write_text(f"nameserver {NAME_SERVER[0]}\n")
        pytest_inside = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
        ended = subprocess.run(
            [*_NAMESPACES, "sh", "-ec", _SETTLE, str(names), *pytest_inside],
            cwd=request.config.rootpath,
            env=os.environ | {_INSIDE: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    outside.__doc__ = test.__doc__
    return outside


def network(*, there: bool) -> None:
    """Takes the route to the storages away, or gives it back. What was under way hangs, as on a real cut."""
    command = ["ip", "address", "replace" if there else "delete", f"{ADDRESS}/32", "dev", "lo"]
    subprocess.run(command, check=True, capture_output=True)
