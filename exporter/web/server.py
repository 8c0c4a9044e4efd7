"""The exporter's HTTP side: its routes, its listeners, and what a reload changes of them."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from exporter.app import App
from exporter.config import ConfigError
from exporter.web import api, lifecycle, metrics, probing, status
from exporter.web.auth import AccessPolicy, protect
from exporter.web.body import whole_body
from exporter.web.connection import Connections, Patience
from exporter.web.errors import as_json
from exporter.web.keys import APP, PAGES, RELOAD, TURNS
from exporter.web.pages import Pages
from exporter.web.protection import protective_headers
from exporter.web.tls import ServerTls
from exporter.web.toolkit import WebConfig, load_web_config
from exporter.web.turns import Turns

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 0.1
"""For answers under way, and once more for those that have to be cancelled."""
PATIENCE = Patience()
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - to say so in the log


class Server:
    """Serves `app` on every listen address (host and port; no host is every interface).

    `web_config` is a file in exporter-toolkit's format, or None.
    """

    def __init__(
        self,
        app: App,
        listen: Sequence[tuple[str, int]],
        web_config: Path | None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._app = app
        self._pages = Pages(app.metrics.registry)
        self._turns = Turns()
        self._patience = patience
        self._listen = listen
        self._web_config = web_config
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listeners: list[asyncio.Server] = []
        self._tls: ServerTls | None = None
        self._policy: AccessPolicy
        self._reloading = asyncio.Lock()
        self.urls: list[str] = []

    async def start(self) -> None:
        """Begins to listen. Raises ConfigError for the web config file, OSError naming an address."""
        config = await self._load()
        if config.tls is not None:
            self._tls = ServerTls.listening(config.tls)
        self._policy = self._policy_of(config)
        if self._policy.takes_no_writes:
            log.warning(
                "writes are off: the API's POST and PUT, and Alertmanager's webhook",
                mend="set R2_EXPORTER_API_TOKEN, or listen on loopback: --web.listen-address=127.0.0.1:9977",
            )
        application = web.Application(middlewares=[as_json, whole_body(self._patience.body)])
        application[APP] = self._app
        application[PAGES] = self._pages
        application[TURNS] = self._turns
        application[RELOAD] = self.reload
        for routes in (status.routes, metrics.routes, probing.routes, lifecycle.routes, api.routes):
            application.add_routes(routes)
        protect(application, lambda: self._policy)
        application.on_response_prepare.append(self._part)
        if not self._app.shard.is_whole:
            application.on_response_prepare.append(self._name_shard)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        connections = Connections(self._runner, self._patience, self._bare_headers, self._turns)
        self._connections = connections
        for host, port in self._listen:
            await self._open(connections, host, port)

    async def reload(self) -> None:
        """Reloads exporter.yaml, then the web config. Raises ConfigError; what was good stays in force."""
        async with self._reloading:  # a file that hangs takes one thread, and the last one asked for wins
            await self._reload()

    async def _reload(self) -> None:
        try:
            config = await self._load()
        except ConfigError as error:
            self._app.reload_failed(error)
            raise
        if (config.tls is None) != (self._tls is None):
            log.warning("turning TLS on or off takes a restart: the listeners stay as they are")
        await self._app.reload()
        if config.tls is not None and self._tls is not None:
            self._tls.use(config.tls)
        self._policy = self._policy_of(config)

    async def stop(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._connections is not None:
            self._connections.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._pages.close()

    async def _part(self, _: web.Request, response: web.StreamResponse) -> None:
        """An exporter that stops takes no further request of a connection."""
        if not self._app.ready:
            response.force_close()
            response.headers["Connection"] = "close"  # which aiohttp has decided on before

    async def _name_shard(self, _: web.Request, response: web.StreamResponse) -> None:
        """Each answer, be it of the history or of alerts, is that of one shard alone."""
        shard = self._app.shard
        response.headers["X-R2-Exporter-Shard"] = f"{shard.number}/{shard.total}"

    async def _load(self) -> WebConfig:
        if self._web_config is None:
            return WebConfig()
        return await asyncio.to_thread(load_web_config, self._web_config, os.environ)

    async def _open(self, connections: Connections, host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        try:
            listener = await asyncio.get_running_loop().create_server(
                connections,
                host or None,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=self._patience.handshake if self._tls else None,
            )
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), f"{shown}:{port}") from error
        self._listeners.append(listener)
        bound = listener.sockets[-1].getsockname()[1]
        url = f"{'https' if self._tls else 'http'}://{shown or 'localhost'}:{bound}"
        self.urls.append(url)
        log.info("listening", url=url, interfaces="this one" if host not in _EVERYWHERE else "all")

    def _policy_of(self, config: WebConfig) -> AccessPolicy:
        api = self._app.settings.api
        return AccessPolicy.of(
            config,
            listen_hosts=[host for host, _ in self._listen],
            tokens=api.all_tokens,
            cors_origins=api.cors_origins,
        )

    def _bare_headers(self) -> dict[str, str]:
        """For answers to what is no request, and so has no path."""
        configured = self._policy.headers
        return {**protective_headers("", configured), **configured}
