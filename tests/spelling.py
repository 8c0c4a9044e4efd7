"""Every way in which a program may write a secret down, and how to forget one again."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

from exporter.masking import _known, register_secrets


def _in_lower_case(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)


def _by_number(form: str) -> Callable[[str], str]:
    """Whatever is neither letter nor digit, by its number."""
    return lambda text: re.sub(r"[^a-zA-Z0-9]", lambda found: form.format(ord(found[0])), text)


def _by_unit(text: str) -> str:
    """As JSON may have it: whatever is neither letter nor digit by its numbers in UTF-16."""

    def units(found: re.Match[str]) -> str:
        return re.sub("(....)", r"\\u\1", found[0].encode("utf-16-be").hex())

    return re.sub(r"[^a-zA-Z0-9]", units, text)


def _in_capitals(text: str) -> str:
    return re.sub(r"\\u[0-9a-f]{4}", lambda found: f"\\u{found[0][2:].upper()}", text)


def _inside(around: str, text: str) -> str:
    return b64encode(around.format(text).encode()).decode()


AROUND = ("a:{}", "ab:{}", "abc:{}", "a:{}, and more")
SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in a URL, in lower case": lambda text: _in_lower_case(quote(text, safe="")),
    "in a form, in lower case": lambda text: _in_lower_case(quote_plus(text)),
    "in a URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "in HTML": html.escape,
    "in HTML, by Go": lambda text: html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "in HTML, by number": _by_number("&#{};"),
    "in HTML, by hexadecimal number": _by_number("&#x{:X};"),
    "in XML": escape,
    "in an attribute of XML": lambda text: quoteattr(text)[1:-1],
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON, in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in JSON, by PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in JSON, by Go": _by_unit,
    "in JSON, by .NET": lambda text: _in_capitals(_by_unit(text)),
    "by Python": lambda text: repr(text)[1:-1],
    "by Python, in ASCII": lambda text: ascii(text)[1:-1],
    "by Python, as bytes": lambda text: repr(text.encode())[2:-1],
    "in Base64": lambda text: b64encode(text.encode()).decode().rstrip("="),
    "in Base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "in Base64 in a URL": lambda text: quote(b64encode(text.encode()).decode().rstrip("="), safe=""),
    "in Base64 in JSON": lambda text: b64encode(text.encode()).decode().rstrip("=").replace("+", "\\u002B"),
    **{f"in Base64 of {each.format('it')}": partial(_inside, each) for each in AROUND},
}


def spellings(secret: str) -> dict[str, str]:
    """All of them, by their names."""
    return {name: spell(secret) for name, spell in SPELLINGS.items()}


def forget_secrets() -> None:
    """Whoever registered them: what one did before is masked until it has changed twice."""
    for user in tuple(_known._used):
        register_secrets(["forgotten in tests"], user)
        register_secrets([], user)
