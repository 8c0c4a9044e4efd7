"""What is installed, and into what: locked, hashed, in step with pyproject.toml, and nothing besides."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_project import make

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ASKED_FOR = {
    "image": PROJECT["project"]["dependencies"],
    "demo": PROJECT["project"]["dependencies"] + EXTRAS["demo"],
    "dev": PROJECT["project"]["dependencies"] + EXTRAS["demo"] + EXTRAS["dev"] + EXTRAS["bench"],
    "build": PROJECT["build-system"]["requires"] + PROJECT["dependency-groups"]["build"],
    "supply": PROJECT["dependency-groups"]["supply"],
}
DOCKERFILE = ROOT.joinpath("Dockerfile").read_text().replace("\\\n", "")
BUILD, FINAL = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]


def entries(lock: Path) -> Iterator[str]:
    text = lock.read_text().replace("\\\n", "")
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def locked(name: str) -> dict[str, Requirement]:
    lock = ROOT / "requirements" / f"{name}.txt"
    found = [Requirement(entry.partition(" --hash=")[0]) for entry in entries(lock)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def version(requirement: Requirement) -> str:
    (pinned,) = requirement.specifier
    assert pinned.operator == "=="
    return pinned.version


def closure(requirement: Requirement) -> Iterator[str]:
    """What is needed here of what this names, by what the installed packages say of themselves."""
    yield canonicalize_name(requirement.name)
    for needed in map(Requirement, requires(requirement.name) or []):
        extras = {"", *requirement.extras}
        if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield from closure(needed)


def test_each_lock_has_its_reason() -> None:
    assert {lock.stem for lock in LOCKS} == set(ASKED_FOR)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_entry_is_one_version_of_known_bytes(lock: Path) -> None:
    entry = re.compile(r"[\w.-]+==[\w.!+]+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries(lock) if not entry.fullmatch(line)] == []


@pytest.mark.parametrize("name", ASKED_FOR)
def test_what_is_asked_for_is_locked_in_its_range(name: str) -> None:
    """Where this fails, pyproject.toml was edited and `make lock` was not run."""
    lock = locked(name)
    asked = [Requirement(text) for text in ASKED_FOR[name] if not text.startswith("r2-exporter[")]
    assert [
        str(wanted) for wanted in asked
        if not (found := lock.get(canonicalize_name(wanted.name))) or version(found) not in wanted.specifier
    ] == []  # fmt: skip


@pytest.mark.parametrize(("fewer", "more"), [("image", "demo"), ("demo", "dev")])
def test_what_is_tested_is_what_is_shipped(fewer: str, more: str) -> None:
    assert locked(fewer).items() <= locked(more).items()


def test_the_image_gets_what_the_exporter_needs_and_nothing_else() -> None:
    needed = {name for text in ASKED_FOR["image"] for name in closure(Requirement(text))}
    here = {name for name, entry in locked("image").items() if not entry.marker or entry.marker.evaluate()}
    assert here == needed


def test_the_image_s_bill_of_materials_is_that_of_its_lock() -> None:
    """Where this fails, `make lock` was run and `make sbom` was not. That one checks the schema."""
    bill = json.loads(ROOT.joinpath("requirements", "image.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "r2-exporter")
    listed = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    assert listed == {
        name: version(entry)
        for name, entry in locked("image").items()
        if not entry.marker or entry.marker.evaluate({"sys_platform": "linux"})
    }
    root = bill["metadata"]["component"]["bom-ref"]
    (direct,) = [one["dependsOn"] for one in bill["dependencies"] if one["ref"] == root]
    assert len(direct) == len(ASKED_FOR["image"])


@pytest.mark.parametrize("target", ["run", "test", "lint", "audit", "sbom"])
def test_make_installs_what_is_locked(target: str) -> None:
    installed = re.findall(r"pip .*install .*", make("--dry-run", "--always-make", target))
    assert installed
    assert [line for line in installed if "--require-hashes" not in line and "--no-index" not in line] == []
    assert [line for line in installed if "--only-binary=:all:" not in line] == []


def test_an_audit_that_cannot_look_something_up_fails() -> None:
    plan = make("--dry-run", "audit")
    assert "--strict" in plan
    assert [lock.name for lock in LOCKS if f"requirements/{lock.name}" not in plan] == []


def test_the_image_is_built_from_the_lock_and_has_nothing_to_build_with() -> None:
    installs = re.findall(r"pip [^&\n]*(?:install|wheel) [^&\n]*", BUILD)
    assert any("--require-hashes --requirement requirements/image.txt" in line for line in installs)
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []
    assert "PIP_ONLY_BINARY=:all:" in BUILD
    assert "pip install" not in FINAL
    assert "pip uninstall --yes" in FINAL
    assert "apt-get" not in DOCKERFILE
    copied = re.findall(r"^COPY (.+) \S+$", FINAL, re.MULTILINE)
    assert copied == ["--from=build /opt/r2-exporter", "requirements/image.cdx.json"]


def copied_to_build() -> set[str]:
    return {name for names in re.findall(r"^COPY (.+) \S+$", BUILD, re.MULTILINE) for name in names.split()}


def test_what_the_image_copies_is_all_that_docker_is_sent() -> None:
    sent = re.findall(r"^!(.+)$", ROOT.joinpath(".dockerignore").read_text(), re.MULTILINE)
    assert set(sent) == copied_to_build()


def test_the_wheel_holds_the_package_and_nothing_that_lies_beside(tmp_path: Path) -> None:
    for name in copied_to_build():
        if ROOT.joinpath(name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path)
    package = {
        str(file.relative_to(tmp_path)) for file in (tmp_path / "exporter").rglob("*") if file.is_file()
    }
    for stray in ("exporter/r2-exporter.db", "exporter/web/server.pem", "tests/test_x.py", "exporter.yaml"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).touch()
    wheel = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    subprocess.run([*wheel, "--no-deps", "--no-build-isolation", "."], cwd=tmp_path, check=True)
    (built,) = tmp_path.glob("*.whl")
    assert {name for name in zipfile.ZipFile(built).namelist() if ".dist-info/" not in name} == package


def test_what_security_promises_names_files_and_tests_that_there_are() -> None:
    table = ROOT.joinpath("SECURITY.md").read_text().partition("| promise |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) > 10
    for promise, mechanism, shown in rows:
        files, tests = (re.findall(r"`([^`]+)`", cell) for cell in (mechanism, shown))
        assert files, promise
        assert tests, promise
        assert [test for test in tests if not re.fullmatch(r"tests/\S*test_\w+\.py", test)] == []
        assert [path for path in files + tests if not ROOT.joinpath(path).is_file()] == []
