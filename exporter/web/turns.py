"""Whose turn it is: of all that callers ask for, one piece is done in a turn of the event loop."""

import asyncio
from collections import deque


class Turns:
    """Callers wait here, first come, first served.

    A probe's measurement includes how long the event loop takes to get round to it. So a turn of the loop
    may not last longer for callers who are many: they wait longer instead.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._going = False

    def next(self) -> asyncio.Future[None]:
        """Done in a later turn of the loop, in which no other is; who gives up ends it before."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._going:
            self._going = True
            loop.call_soon(self._give, loop)
        return turn

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(self._give, loop)
                return
        self._going = False
