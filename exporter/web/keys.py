"""What the handlers reach through their aiohttp application."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from exporter.app import App

APP = web.AppKey("app", App)
RELOAD: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("reload")
