"""What a server says, made fit for a log line, a label and an error message."""

from exporter.masking import mask

_LONGEST_SECRET = 16 * 1024


def printable(text: str, limit: int) -> str:
    """The first `limit` characters, with a space for each that no terminal should get to see.

    Secrets are masked before the text is cut: half of one could not be told any more.
    """
    shown = mask(text[: limit + _LONGEST_SECRET])[:limit]
    return "".join(char if char.isprintable() else " " for char in shown)
