"""The unit: valid to systemd, hardly exposed; the exporter takes its command and its configuration."""

import os
import re
import shlex
import subprocess
from pathlib import Path

from exporter.cli import parser
from exporter.config import load_settings
from tests.deploy.tool import DEPLOY, run, tool

UNIT = DEPLOY / "systemd" / "r2-exporter.service"
CONFIG = DEPLOY / "systemd" / "exporter.yaml"
EXPOSURE = 1.3
"""What `systemd-analyze security` rates the unit; README.md says it too. 10 is the most exposed."""


def settings() -> dict[str, list[str]]:
    """The unit's settings, each with every value that it is given."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.M):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "r2-exporter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/r2-exporter/bin/r2-exporter", str(program)))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", unit],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_hardly_exposed() -> None:
    said = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", UNIT)
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(level) == EXPOSURE
    assert f"rates it {EXPOSURE}" in UNIT.with_name("README.md").read_text()


def test_the_exporter_takes_its_arguments() -> None:
    (command,) = settings()["ExecStart"]
    program, *arguments = shlex.split(command.replace("%S", "/var/lib"))
    options = parser().parse_args(arguments)
    assert program == "/opt/r2-exporter/bin/r2-exporter"
    (folder,) = settings()["StateDirectory"]
    assert options.storage.parent == Path("/var/lib") / folder


def test_the_exporter_finds_its_secrets_among_the_credentials(tmp_path: Path) -> None:
    credentials = dict(value.split(":") for value in settings()["LoadCredential"])
    for name, file in credentials.items():
        assert Path(file).name == name  # so that a check by hand finds them in their own folder
        tmp_path.joinpath(name).write_text("0123456789abcdef0123456789abcdef\n")
    loaded = load_settings(CONFIG, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.targets[0].secret_access_key_file == str(tmp_path / "secret_access_key")
    assert loaded.api.token is not None
    asked = set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\w+)", CONFIG.read_text()))
    assert asked == set(credentials)


def test_an_unusable_configuration_is_not_started_again() -> None:
    (status,) = settings()["RestartPreventExitStatus"]
    done = subprocess.run(
        [tool("r2-exporter"), "serve", "--config.file=/nonexistent/exporter.yaml"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == int(status)
