"""bcrypt logins: off the event loop, one at a time, and each checked once."""

import asyncio
import threading

import bcrypt
import pytest

from exporter.config.values import Secret
from exporter.web.passwords import Logins

PASSWORD = "correct horse"


def hashed(password: str) -> Secret:
    return Secret(bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode())


USERS = {"alice": hashed(PASSWORD)}


class Counted:
    """bcrypt's check, counting calls and how many ran at once."""

    def __init__(self) -> None:
        self.calls = 0
        self.most_at_once = 0
        self.threads: set[int] = set()
        self._running = 0
        self._check = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        self.calls += 1
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self.threads.add(threading.get_ident())
        try:
            return self._check(password, hashed_password)
        finally:
            self._running -= 1


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return counted


async def test_results_good_and_bad_are_remembered(checks: Counted) -> None:
    logins = Logins()
    for _ in range(3):
        assert await logins.verify("alice", PASSWORD, USERS)
        assert not await logins.verify("alice", "wrong", USERS)
        assert not await logins.verify("nobody", PASSWORD, USERS)
    assert checks.calls == 3


async def test_one_bcrypt_at_a_time_off_the_loop_and_one_per_login(checks: Counted) -> None:
    logins = Logins()
    attempts = [logins.verify("alice", f"guess {n % 10}", USERS) for n in range(40)]
    assert not any(await asyncio.gather(*attempts))
    assert checks.calls == 10
    assert checks.most_at_once == 1
    assert threading.get_ident() not in checks.threads


async def test_an_unknown_user_costs_as_much_as_the_costliest_known_one(checks: Counted) -> None:
    users = USERS | {"bob": Secret(bcrypt.hashpw(b"b", bcrypt.gensalt(5)).decode())}
    seen: list[bytes] = []
    logins = Logins()
    original = checks._check

    def spy(password: bytes, hashed_password: bytes) -> bool:
        seen.append(hashed_password)
        return original(password, hashed_password)

    checks._check = spy
    assert not await logins.verify("nobody", "b", users)
    assert seen == [users["bob"].get_secret_value().encode()]


async def test_guesses_do_not_push_a_real_login_out_and_stay_bounded(checks: Counted) -> None:
    logins = Logins(remembered=5)
    assert await logins.verify("alice", PASSWORD, USERS)
    for n in range(12):
        assert not await logins.verify("alice", f"guess {n}", USERS)
    before = checks.calls
    assert await logins.verify("alice", PASSWORD, USERS)
    assert not await logins.verify("alice", "guess 11", USERS)
    assert checks.calls == before
    assert {result: len(keys) for result, keys in logins._results.items()} == {True: 1, False: 5}


async def test_memory_holds_no_password() -> None:
    logins = Logins()
    await logins.verify("alice", PASSWORD, USERS)
    assert PASSWORD not in repr(vars(logins))
    (key,) = logins._results[True]
    (other,) = await _keys_of(Logins())
    assert key != other


async def _keys_of(logins: Logins) -> list[bytes]:
    await logins.verify("alice", PASSWORD, USERS)
    return [*logins._results[True]]


async def test_a_changed_or_removed_user_is_checked_anew() -> None:
    logins = Logins()
    assert await logins.verify("alice", PASSWORD, USERS)
    assert not await logins.verify("alice", PASSWORD, {"alice": hashed("new")})
    assert not await logins.verify("alice", PASSWORD, {"bob": USERS["alice"]})
    assert await logins.verify("bob", PASSWORD, {"bob": USERS["alice"]})


async def test_long_and_odd_passwords() -> None:
    users = {"long": hashed("x" * 80), "umlaut": hashed("pässwörd")}
    logins = Logins()
    assert await logins.verify("long", "x" * 80, users)
    assert not await logins.verify("long", "x" * 71, users)
    assert await logins.verify("umlaut", "pässwörd", users)
    assert not await logins.verify("umlaut", "\0\udc80", users)
