"""What a server says, made fit for a log line, a label and an error message."""


def printable(text: str, limit: int) -> str:
    """The first `limit` characters, with a space for each that no terminal should get to see."""
    return "".join(char if char.isprintable() else " " for char in text[:limit])
