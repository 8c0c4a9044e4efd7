"""deploy/compose as Docker Compose understands it, and its files laid out as in the containers."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from tests.deploy.tool import DEPLOY, run

COMPOSE = DEPLOY / "compose"


@cache
def services() -> dict[str, Any]:
    """Every service, with variables replaced and paths resolved."""
    printed = run("docker-compose", "--file", COMPOSE / "compose.yaml", "config", "--format", "json")
    found: dict[str, Any] = json.loads(printed)["services"]
    return found


def binds(service: str) -> dict[str, Path]:
    """The files and folders of this repository that a container sees, by where it sees them."""
    mounts = services()[service].get("volumes", [])
    return {mount["target"]: Path(mount["source"]) for mount in mounts if mount["type"] == "bind"}


def lay_out(service: str, folder: Path) -> Path:
    """A copy of what the container of `service` gets from this repository, with `folder` as its root."""
    for seen, source in binds(service).items():
        target = folder / seen.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return folder
