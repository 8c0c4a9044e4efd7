"""The keys that requests are signed with: given in the configuration, or from boto3's own chain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from exporter.masking import register_secrets

if TYPE_CHECKING:
    from botocore.credentials import Credentials

_LAST_MINUTE = 60


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What a request is signed with; `token` comes with keys that expire."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CredentialsError(Exception):
    """No usable credentials; the message says where they were looked for and how to give them."""


class CredentialSource(Protocol):
    """Gives the credentials that are valid now."""

    def at_hand(self) -> AccessKey | None:
        """Those that are good for a while yet, if there are any."""

    async def current(self) -> AccessKey:
        """Raises CredentialsError."""


class StaticCredentials:
    """Credentials written in, or pointed at by, the configuration."""

    def __init__(self, access_key_id: str, secret_access_key: str, session_token: str | None = None) -> None:
        self._credentials = AccessKey(access_key_id, secret_access_key, session_token)

    def at_hand(self) -> AccessKey | None:
        return self._credentials

    async def current(self) -> AccessKey:
        return self._credentials


class ChainCredentials:
    """boto3's chain: environment, profile, web identity, container, instance metadata.

    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
    Looking them up and refreshing them reads files, runs programs and asks servers, so both happen
    in a thread: one at a time, and it goes on when its caller has stopped waiting. Credentials that
    expire are refreshed in good time, while those at hand are still used. One object serves every
    target without keys of its own. Without such a target boto3, which is large, is never loaded.
    """

    def __init__(self) -> None:
        self._credentials: Credentials | None = None
        self._frozen: AccessKey | None = None
        self._lookup: asyncio.Task[AccessKey | CredentialsError] | None = None

    def at_hand(self) -> AccessKey | None:
        return None if self._expires_within(None) else self._frozen

    async def current(self) -> AccessKey:
        if (good := self.at_hand()) is not None:
            return good
        at_hand = self._frozen
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(asyncio.to_thread(self._look_up))
        if at_hand is not None and not self._expires_within(_LAST_MINUTE):
            return at_hand
        found = await asyncio.shield(self._lookup)
        if isinstance(found, CredentialsError):
            raise found
        return found

    def _expires_within(self, seconds: int | None) -> bool:
        """Whether what is at hand expires so soon; None stands for botocore's own advice."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)  # only those that expire
        return refresh_needed is not None and bool(refresh_needed(seconds))

    def _look_up(self) -> AccessKey | CredentialsError:
        import boto3  # noqa: PLC0415  for those who need it

        try:
            self._credentials = self._credentials or boto3.Session().get_credentials()
            if self._credentials is None:
                return CredentialsError(
                    "no credentials in the configuration and none in boto3's credential chain"
                )
            frozen = self._credentials.get_frozen_credentials()
            register_secrets(filter(None, (frozen.secret_key, frozen.token)), "boto3's chain")
            self._frozen = AccessKey(frozen.access_key or "", frozen.secret_key or "", frozen.token)
        except Exception as error:  # the chain runs programs and parses what they say: anything may come
            return CredentialsError(f"boto3's credential chain failed with {type(error).__name__}")
        return self._frozen
