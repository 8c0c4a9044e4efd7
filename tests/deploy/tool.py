"""The tools that check what is in deploy/, each found or named with the package that brings it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DEBIAN = {
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
"""The Debian package of each tool; the others come with `pip install '.[dev]'`."""


def tool(name: str) -> str:
    """Where the tool is, beside this Python or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    package = f"apt-get install {DEBIAN[name]}" if name in DEBIAN else "pip install '.[dev]'"
    assert found, f"{name} is missing: {package}"
    return found


def run(name: str, *arguments: str | Path) -> str:
    """What the tool prints; it must succeed."""
    done = subprocess.run(
        [tool(name), *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
