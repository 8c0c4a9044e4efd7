"""What the guides hold that can be tried: links, configurations, policies, commands."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.tool import DEPLOY, ROOT

STARTS = tuple(ROOT / "docs" / f"start-{name}.md" for name in ("r2", "minio", "ceph", "aws"))
PAGES = (
    *STARTS,
    *(ROOT / "docs" / f"{name}.md" for name in ("scaling", "security", "cost", "faq")),
    DEPLOY / "README.md",
    DEPLOY / "compose" / "README.md",
    DEPLOY / "systemd" / "README.md",
    DEPLOY / "helm" / "r2-exporter" / "README.md",
)


def blocks(page: Path, language: str, holding: str = "") -> list[str]:
    """The fenced blocks of this language that hold this text."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.M | re.S)
    return [block for block in found if holding in block]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of each link into this repository."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """What its headings are called in links, as GitHub calls them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    plain = (re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def commands(page: Path) -> list[str]:
    """Every `r2-exporter` command line of a page, with lines that go on joined."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|/bin/)r2-exporter ([^#|]*)", line.strip()) for line in lines)
    return [each[1].strip() for each in found if each]
