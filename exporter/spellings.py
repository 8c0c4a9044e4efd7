"""The ways in which a secret may be written down, as one regular expression. Pure.

As it is, or as URLs, HTML, XML, JSON, Python and Base64 have it, in any mixture of these that a program
may think of: each character that one of them writes in another way may be written in any of them. Letters and
digits stay as they are.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from os.path import commonprefix

_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"} | {char: char for char in "\"'/\\"}
_ENTITIES = {'"': "quot", "'": "apos", "&": "amp", "<": "lt", ">": "gt"}

_BASE64 = {"+": r"(?:[+-]|%2[Bb]|\\u002[Bb])", "/": r"(?:[/_]|%2[Ff]|\\/|\\u002[Ff])"}
_KNOWN_BY = 16
"""Characters of Base64 by which a secret is known; those that follow go with them."""

_MORE_BASE64 = r"(?:[\w+/=-]|%[0-9A-Fa-f]{2})*"

_Word = tuple[str, ...]
"""A pattern for each character."""


def plainly(secrets: Iterable[str]) -> str:
    """A pattern of any spelling of any of `secrets` but in Base64, the longest where one begins another."""
    return _branches(sorted({tuple(map(_character, secret)) for secret in secrets}))


def in_base64(secrets: Iterable[str]) -> str:
    """A pattern of what Base64 makes of any text that holds any of `secrets`, from there on."""
    return _branches(sorted({word for secret in secrets for word in _in_base64(secret)})) + _MORE_BASE64


def _branches(words: Sequence[_Word]) -> str:
    """Of sorted words. What begins alike is tried once: a thousand secrets cost little more than a few."""
    shared = commonprefix(words)  # noqa: RUF071 - not of paths, and so character by character
    rests = [word[len(shared) :] for word in words]
    grouped = groupby(filter(None, rests), key=lambda rest: rest[0])
    branches = "|".join(_branches(list(group)) for _, group in grouped)
    return "".join(shared) + (f"(?:{branches}){'' if all(rests) else '?'}" if branches else "")


@cache
def _character(char: str) -> str:
    if char.isascii() and char.isalnum():
        return char
    code, as_bytes = ord(char), char.encode(errors="surrogatepass")
    units = char.encode("utf-16-be", errors="surrogatepass").hex()
    escaped = [
        *([re.escape(_SHORT[char])] if char in _SHORT else []),
        *([f"x{code:02x}"] if code < 256 else []),
        rf"u(?:0000)?{units}" if len(units) == 4 else rf"(?:u{units[:4]}\\u{units[4:]}|u{code:08x})",
        *([r"\\".join(f"x{byte:02x}" for byte in as_bytes)] if not char.isascii() else []),
    ]
    spelled = [
        "".join(f"%(?:25)?{byte:02x}" for byte in as_bytes),
        rf"\\(?:{'|'.join(escaped)})",
        f"&(?:{_ENTITIES[char]}|#0*{code}|#x0*{code:x});"
        if char in _ENTITIES
        else f"&#(?:0*{code}|x0*{code:x});",
        *([r"\+"] if char == " " else []),
        re.escape(char),
    ]
    return f"(?i:{'|'.join(spelled)})"


def _in_base64(secret: str) -> Iterator[_Word]:
    """What any Base64 of a text that holds the secret has of it, wherever in the text it stands.

    Three bytes are four characters, so there are three ways; the first and last of them may be another's too.
    """
    plain = secret.encode(errors="surrogatepass")
    for before in range(3):
        first, last = -(-before * 4 // 3), (before + len(plain)) * 8 // 6
        encoded = b64encode(bytes(before) + plain).decode()[first:last]
        yield tuple(_BASE64.get(char, char) for char in encoded[:_KNOWN_BY])
