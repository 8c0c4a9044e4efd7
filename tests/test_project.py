"""What the project promises to people who clone it."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = ("run", "test", "soak", "lint", "bench", "pictures", "generate", "lock", "audit", "sbom")
MAX_LINES = 350
MODULES = sorted((ROOT / "exporter").rglob("*.py"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=clean, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def test_make_alone_lists_every_target() -> None:
    listed = [line.split()[0] for line in make().splitlines()]
    assert listed == ["help", *TARGETS]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_sets_itself_up(target: str) -> None:
    plan = make("--dry-run", "--always-make", target)
    assert "tools/make-venv .venv" in plan
    assert "pip install" in plan


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("run", ".venv/bin/r2-exporter demo"),
        ("test", ".venv/bin/pytest"),
        ("soak", ".venv/bin/python -m tests.soak"),
        ("soak", ".venv/bin/python -m tests.soak --dev"),
        ("soak", ".venv/bin/pytest"),
        ("lint", ".venv/bin/ruff check ."),
        ("lint", ".venv/bin/ruff format --check ."),
        ("lint", ".venv/bin/mypy"),
    ],
)
def test_a_target_runs_its_program(target: str, command: str) -> None:
    assert command in make("--dry-run", target)


def test_continuous_integration_lints_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make .*?(\w+)$", script.read_text(encoding="utf-8"), re.M) == ["lint", "test"]


def test_an_unusable_interpreter_is_refused_by_name(tmp_path: Path) -> None:
    made = tmp_path / "venv"
    done = subprocess.run(
        [ROOT / "tools" / "make-venv", made, "/bin/false"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "PYTHON=/bin/false" in done.stderr
    assert not made.exists()


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", read("CHANGELOG.md"), re.M)


def test_the_licence_is_the_declared_one() -> None:
    assert tomllib.loads(read("pyproject.toml"))["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in read("LICENSE")


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 5


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_small(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_image_runs_unprivileged_and_is_watched() -> None:
    instructions = read("Dockerfile").splitlines()
    users = [line.split()[1] for line in instructions if line.startswith("USER ")]
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    assert "EXPOSE 9977" in instructions
    assert any(line.startswith("HEALTHCHECK ") and "healthcheck" in line for line in instructions)
