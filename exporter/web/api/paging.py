"""The address of the page after one."""

from urllib.parse import urlencode

from exporter.web.api.parameters import FARTHEST, Paged


def next_page(path: str, asked: Paged, sent: dict[str, str], total: int) -> str | None:
    """With all that was asked for, or None where the page is the last one."""
    after = asked.offset + asked.limit
    if after >= total or after > FARTHEST:
        return None
    return f"{path}?{urlencode({**sent, 'limit': asked.limit, 'offset': after})}"
