"""Names of other people's objects that are made to be mistaken for a probe's."""

import random
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from exporter.keys import ProbeKey

LONGEST = 1024
"""Bytes of a key, in S3."""

SHAPE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/(?P<stamp>[0-9]{8}T[0-9]{6}Z)-[0-9a-f]{32}", re.ASCII)
"""What follows the prefix in a key of ours, told in other words than the program's."""

NONCE, STAMP = "0123456789abcdef" * 2, "20200102T030405Z"
NO_MOMENTS = (
    "20201302T030405Z",
    "20200230T030405Z",
    "20200102T030461Z",
    "20200102T240000Z",
    "00000101T000000Z",
)
NAMES = (
    *(f"here/{stamp}-{NONCE}" for stamp in NO_MOMENTS),
    f"here/{STAMP}-{NONCE.upper()}",
    f"here/{STAMP.lower()}-{NONCE}",
    f"here/{STAMP}_{NONCE}",
    f"here/{STAMP}{NONCE}",
    f"here/{STAMP}-{NONCE}{NONCE}",
    f"here\\{STAMP}-{NONCE}",
    f"HERE/{STAMP}-{NONCE}",
    f"-here/{STAMP}-{NONCE}",
    f"here-/{STAMP}-{NONCE}",
    f"he--re/{STAMP}-{NONCE}",
    f"{'h' * 64}/{STAMP}-{NONCE}",
    f"../{STAMP}-{NONCE}",
    f"./{STAMP}-{NONCE}",
    f"/{STAMP}-{NONCE}",
    f"{STAMP}-{NONCE}",
    f"here/../here/{STAMP}-{NONCE}",
    f"here/deeper/{STAMP}-{NONCE}",
    "here/",
    "",
)
BEFORE = ("/", "//", "./", "../", "a/../", "backup/", " ", "\ufeff", "%2E", "x" * 900)
AFTER = ("\n", " ", "\0", "/", "/..", ".bak", "?versionId=null", "#", "%00", "0", "x" * 900)
BETWEEN = ("", "//", "\\", "/./", "/../", "-old/", "2/", "%2F", "\u2215", " /")
ODD = (
    "",
    "\n",
    " ",
    "/",
    ".",
    "..",
    "_",
    "-",
    "%",
    "A",
    "\0",
    "\r",
    "+",
    "\u0663",
    "\u00e9",
    "\uff11",
    "\u2028",
)
MOMENTS = (0, 1_500_000_000, 1_700_000_000, 4_000_000_000)
LOOK_ALIKE = str.maketrans("re-/0", "\u0433\u0435\u2010\u2044\uff10")


def tempting(prefixes: Sequence[str], number: int, chance: random.Random) -> list[str]:
    """So many different names, none of them a key of ours under any of `prefixes`.

    Of each known kind one at least, and then keys of ours in which up to three characters are changed.
    """
    names = {
        name for prefix in prefixes for name in _known(prefix, chance) if _may_be_anybodys(name, prefixes)
    }
    assert len(names) < number
    while len(names) < number:
        prefix = chance.choice(prefixes)
        # Of each thousand that a sweep lists moto makes a tenth of a second: most of them are not below it.
        until = len(prefix) if chance.random() < 0.8 else None
        name = _edited(_key(prefix, chance.choice(MOMENTS), chance), until, chance)
        if _may_be_anybodys(name, prefixes):
            names.add(name)
    return sorted(names)


def _known(prefix: str, chance: random.Random) -> Iterator[str]:
    yield from (prefix + name for name in NAMES)
    for key in (_key(prefix, moment, chance) for moment in MOMENTS):
        rest = key.removeprefix(prefix)
        yield from (before + key for before in (*BEFORE, prefix))
        yield from (key + after for after in AFTER)
        yield from (prefix[:-1] + between + rest for between in BETWEEN)
        yield from (key.upper(), key.title(), key[:-1], key[::-1], rest, key.translate(LOOK_ALIKE))
        yield from (quote(key, safe=""), quote(key).replace("-", "%2D"))
        yield from (key.ljust(LONGEST, "f"), key.rjust(LONGEST, "/"))


def _key(prefix: str, moment: int, chance: random.Random) -> str:
    return str(ProbeKey(prefix, "here", moment, f"{chance.getrandbits(128):032x}"))


def _edited(key: str, until: int | None, chance: random.Random) -> str:
    """The first change is before `until`."""
    for number in range(chance.randint(1, 3)):
        at = chance.randrange(len(key) if number or until is None else until)
        key = key[:at] + chance.choice(ODD) + key[at + chance.randint(0, 1) :]
    return key


def _may_be_anybodys(name: str, prefixes: Sequence[str]) -> bool:
    """Whether S3 takes it, and we could not have made it."""
    if not 1 <= len(name.encode()) <= LONGEST:
        return False
    ours = [SHAPE.fullmatch(name, len(prefix)) for prefix in prefixes if name.startswith(prefix)]
    return all(match is None or match["stamp"] in NO_MOMENTS for match in ours)
