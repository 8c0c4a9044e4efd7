"""Checking bcrypt logins off the event loop, and remembering the results."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from exporter.config.values import Secret

_LONGEST_PASSWORD = 72  # bcrypt reads no further


class Logins:
    """Verifies logins, at most one bcrypt at a time.

    Results are kept, the good apart from the bad so that guesses cannot push a real login out,
    under a keyed hash, so that memory holds no password. An unknown user costs as much as the
    most expensive known one.
    """

    def __init__(self, remembered: int = 1024) -> None:
        self._key = secrets.token_bytes(32)
        self._remembered = remembered
        self._results: dict[bool, dict[bytes, None]] = {True: {}, False: {}}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bcrypt")

    async def close(self, _: object = None) -> None:
        """For aiohttp's `on_cleanup`: its idle thread would keep the process from ending by itself."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def verify(self, name: str, password: str, users: Mapping[str, Secret]) -> bool:
        """Whether `name` is one of `users` (name to bcrypt hash) and `password` is theirs."""
        known = name in users
        hashed = users[name].get_secret_value() if known else _costliest(users)
        key = self._digest(name, password, hashed if known else "")
        result = self._recall(key)
        if result is not None:
            return result
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._compute, key, password, hashed, known)

    def _compute(self, key: bytes, password: str, hashed: str, known: bool) -> bool:
        """Runs in the one worker thread, the only place that changes the results."""
        result = self._recall(key)  # the same login may have waited in the queue twice
        if result is None:
            secret = password.encode(errors="surrogateescape")[:_LONGEST_PASSWORD]
            result = bcrypt.checkpw(secret, hashed.encode()) and known
            self._remember(key, result)
        return result

    def _recall(self, key: bytes) -> bool | None:
        return next((result for result, keys in self._results.items() if key in keys), None)

    def _remember(self, key: bytes, result: bool) -> None:
        keys = self._results[result]
        while len(keys) >= self._remembered:
            del keys[next(iter(keys))]
        keys[key] = None

    def _digest(self, *parts: str) -> bytes:
        encoded = [part.encode(errors="surrogateescape") for part in parts]
        framed = b"".join(len(part).to_bytes(8) + part for part in encoded)
        return hmac.digest(self._key, framed, hashlib.sha256)


def _costliest(users: Mapping[str, Secret]) -> str:
    return max((user.get_secret_value() for user in users.values()), key=lambda hashed: hashed[4:6])
