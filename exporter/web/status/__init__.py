"""`/`: the status page for people. It decides nothing of its own and acts through the JSON API."""

from exporter.web.status.page import routes

__all__ = ["routes"]
