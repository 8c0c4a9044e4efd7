"""What the handlers reach through their aiohttp application."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from aiohttp import web

from exporter.app import App
from exporter.web.pages import Pages
from exporter.web.turns import Turns

APP = web.AppKey("app", App)
PAGES = web.AppKey("pages", Pages)
TURNS = web.AppKey("turns", Turns)
CALLER: ContextVar[str] = ContextVar("caller", default="anonymous")
"""Who sent the request being answered, for the audit trail: a token's name, `login:NAME`,
`certificate:NAME` of a verified client certificate, or `anonymous`."""

RELOAD: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("reload")
