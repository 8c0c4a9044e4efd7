"""A page of a list, and the address of the one after it."""

from collections.abc import Sequence
from urllib.parse import urlencode

from pydantic import BaseModel

from exporter.web.api.declare import encoded
from exporter.web.api.parameters import FARTHEST, Paged


def encoded_page(
    model: type[BaseModel],
    path: str,
    asked: Paged,
    sent: dict[str, str],
    *,
    items: Sequence[BaseModel],
    total: int,
) -> bytes:
    """The page that was asked for at `path` with the parameters in `sent`, as JSON."""
    following = _next_page(path, asked, sent, total)
    return encoded(model(items=items, total=total, limit=asked.limit, offset=asked.offset, next=following))


def _next_page(path: str, asked: Paged, sent: dict[str, str], total: int) -> str | None:
    """With all that was asked for, or None where the page is the last one."""
    after = asked.offset + asked.limit
    if after >= total or after > FARTHEST:
        return None
    return f"{path}?{urlencode({**sent, 'limit': asked.limit, 'offset': after})}"
