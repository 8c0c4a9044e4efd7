"""Which paths are the JSON API's, and the one of them that a machine calls in bursts."""

API = "/api/"
WEBHOOK = "/api/alertmanager/webhook"


def in_api(path: str) -> bool:
    """Whether the rules of the JSON API hold there."""
    return path.startswith(API)
