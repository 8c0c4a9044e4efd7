"""The keys that requests are signed with: given in the configuration, or from boto3's own chain."""

import asyncio
from typing import Protocol

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError


class CredentialsError(Exception):
    """No usable credentials; the message says where they were looked for and how to give them."""


class CredentialSource(Protocol):
    """Gives the credentials that are valid now."""

    async def current(self) -> ReadOnlyCredentials:
        """Raises CredentialsError."""


class StaticCredentials:
    """Credentials written in, or pointed at by, the configuration."""

    def __init__(self, access_key_id: str, secret_access_key: str, session_token: str | None = None) -> None:
        self._credentials = ReadOnlyCredentials(access_key_id, secret_access_key, session_token)

    async def current(self) -> ReadOnlyCredentials:
        return self._credentials


class ChainCredentials:
    """boto3's chain: environment, profile, web identity, container, instance metadata.

    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
    Looking them up and refreshing them reads files and asks servers, so both happen in a thread.
    One object serves every target without keys of its own.
    """

    def __init__(self) -> None:
        self._credentials: Credentials | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> ReadOnlyCredentials:
        async with self._lock:
            if self._credentials is None:
                self._credentials = await asyncio.to_thread(_find)
            if self._is_stale():
                return await asyncio.to_thread(_freeze, self._credentials)
            return _freeze(self._credentials)

    def _is_stale(self) -> bool:
        found = self._credentials
        return isinstance(found, RefreshableCredentials) and found.refresh_needed()


def _find() -> Credentials:
    try:
        found = boto3.Session().get_credentials()
    except BotoCoreError as error:
        raise CredentialsError(f"boto3's credential chain failed with {type(error).__name__}") from error
    if found is None:
        raise CredentialsError("no credentials in the configuration and none in boto3's credential chain")
    return found


def _freeze(credentials: Credentials) -> ReadOnlyCredentials:
    try:
        return credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise CredentialsError(f"refreshing credentials failed with {type(error).__name__}") from error
