"""Pushes alerts to all members, each on its own, and knows what is active for those that join."""

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from exporter.alertmanager.ledger import Pace
from exporter.alertmanager.member import Attempt, Link, Member
from exporter.alertmanager.pushed import Key, Pushed
from exporter.alertmanager.silence import SilenceError
from exporter.config import AlertmanagerSettings
from exporter.s3.client import Client, tls_context

log = structlog.get_logger(__name__)


class Pusher:
    """Tells every member of each alert that is put, at once and then on and on while it is active.

    `told` hears of each request. Nothing happens before `configure`, nor while no member is configured.
    """

    def __init__(self, told: Callable[[Attempt], None] = lambda _: None, pace: Pace | None = None) -> None:
        self._told = told
        self._pace = pace or Pace()
        self._active: dict[Key, Pushed] = {}
        self._members: dict[str, Member] = {}
        self._in_force: tuple[AlertmanagerSettings, list[bytes]] | None = None

    def put(self, alert: Pushed) -> None:
        """Takes an alert that is active, has changed, or has `ends_at`: is resolved. Never blocks."""
        if alert.resolved:
            self._active.pop(alert.key, None)
        else:
            self._active[alert.key] = alert
        for member in self._members.values():
            member.put(alert)

    def pending(self) -> Mapping[str, int]:
        """How many alerts each member, by its URL, has yet to hear."""
        return {url: member.pending for url, member in self._members.items()}

    async def silence(self, labels: Mapping[str, str], *, until: float, by: str, comment: str) -> str:
        """Lets Alertmanager say nothing of what has these labels until then (Unix seconds); the silence's id.

        Of the labels that go to each alert too: another exporter's target may have the same name. One member
        is told, and tells the others. Raises SilenceError.
        """
        refused = SilenceError("there is nobody to ask: name Alertmanager in alertmanager.urls", asked=False)
        for member in list(self._members.values()):
            try:
                return await member.silence(labels, until=until, by=by, comment=comment)
            except SilenceError as error:
                refused = error
        raise refused

    async def end_silence(self, silence_id: str) -> None:
        """Takes a silence back, as far as a member can be spoken with."""
        for member in list(self._members.values()):
            if await member.end_silence(silence_id):
                return
        log.warning("a silence that is not wanted stays in Alertmanager", silence=silence_id)

    async def configure(self, settings: AlertmanagerSettings) -> None:
        """Begins with these members, or goes on with others, or with certificates that were renewed.

        Raises OSError and ssl.SSLError for files that cannot be used, and then nothing has changed.
        """
        contents = await asyncio.to_thread(_contents, settings)
        if (settings, contents) == self._in_force:
            return
        tls = await asyncio.to_thread(_context, settings) if settings.urls else None
        self._in_force = settings, contents
        gone = [member for url, member in self._members.items() if url not in settings.urls]
        kept = [member for url, member in self._members.items() if url in settings.urls]
        await asyncio.gather(*(member.end() for member in (*gone, *kept)))
        if tls is None:
            self._members = {}
            return
        members = {member.url: member for member in kept}
        for url in settings.urls:
            if url not in members:
                members[url] = Member(url, self._pace, self._told)
                for alert in self._active.values():
                    members[url].put(alert)
        self._members = members
        for member in members.values():
            member.use(_link(settings, tls))

    async def stop(self, seconds: float) -> None:
        """Tries once, for so long, to tell what is new. What is active is not resolved by our end."""
        members, self._members = self._members, {}
        await asyncio.gather(*(member.last_words(seconds) for member in members.values()))


def _contents(settings: AlertmanagerSettings) -> list[bytes]:
    """Of the files that are named: they are renewed in place. In a thread: it reads them."""
    named = (settings.ca_file, settings.cert_file, settings.key_file)
    return [hashlib.sha256(Path(file).read_bytes()).digest() for file in named if file is not None]


def _context(settings: AlertmanagerSettings) -> ssl.SSLContext:
    """In a thread: it reads files."""
    context = tls_context(settings.ca_file)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file, _no_passphrase)
    return context


def _no_passphrase() -> str:
    """OpenSSL would ask for it on the terminal."""
    raise ssl.SSLError("the key is encrypted")


def _link(settings: AlertmanagerSettings, tls: ssl.SSLContext) -> Link:
    headers = {"Content-Type": "application/json"}
    if settings.authorization is not None:
        headers["Authorization"] = settings.authorization.get_secret_value()
    return Link(Client(tls=tls), headers, settings.labels, settings.timeout)
