"""However many ask, a turn of the event loop does one thing for them."""

import asyncio

import pytest
from aiohttp import web

from exporter.web.turns import Turns
from tests.running import until
from tests.serving import serving

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Loop:
    """Counts the turns of the event loop, for as long as it is asked to."""

    def __init__(self) -> None:
        self.turn = 0
        self._count()

    def _count(self) -> None:
        self.turn += 1
        self._again = asyncio.get_running_loop().call_soon(self._count)

    def end(self) -> None:
        self._again.cancel()


async def test_each_has_a_turn_of_the_loop_of_its_own_in_the_order_they_came() -> None:
    turns, loop = Turns(), Loop()
    had: list[tuple[int, int]] = []

    async def caller(number: int) -> None:
        for _ in range(3):
            await turns.next()
            had.append((number, loop.turn))

    await asyncio.gather(*map(caller, range(20)))
    loop.end()
    assert [number for number, _ in had] == [*range(20)] * 3
    assert len({turn for _, turn in had}) == len(had)


async def test_who_gave_up_costs_the_others_no_turn() -> None:
    turns, loop = Turns(), Loop()
    await turns.next()
    given_up, last = [turns.next() for _ in range(1000)], turns.next()
    for each in given_up:
        each.cancel()
    before = loop.turn
    await last
    loop.end()
    assert loop.turn - before < 10
    await turns.next()  # and it goes on


class Held(Turns):
    """Those who ask wait until the test lets them."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[None]] = []

    def next(self) -> asyncio.Future[None]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


@pytest.fixture
def answered() -> list[str]:
    return []


@pytest.fixture
def app(answered: list[str]) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        answered.append(request.path)
        return web.Response(body=b"hello")

    app = web.Application()
    app.router.add_get("/{name}", answer)
    return app


async def test_the_request_of_a_caller_who_has_left_is_not_answered(
    app: web.Application, answered: list[str]
) -> None:
    async with serving(app, turns=(turns := Held())) as served:
        leaving, staying = await served.open(), await served.open()
        leaving.send(GET.format("/leaving") * 20)
        await until(lambda: len(turns.asked) == 1)
        staying.send(GET.format("/staying"))
        await until(lambda: len(turns.asked) == 2)
        await leaving.close()
        await until(turns.asked[0].done)
        turns.asked[1].set_result(None)
        assert (await staying.answer()).body == b"hello"
        assert len(turns.asked) == 2
    assert answered == ["/staying"]


async def test_once_it_closes_only_who_has_had_a_turn_is_answered(
    app: web.Application, answered: list[str]
) -> None:
    going_on = asyncio.Event()

    async def begun(_: web.Request) -> web.Response:
        await going_on.wait()
        return web.Response(body=b"hello")

    app.router.add_get("/it/begun", begun)
    async with serving(app, turns=(turns := Held())) as served:
        first, waiting, late = [await served.open() for _ in range(3)]
        first.send(GET.format("/it/begun"))
        await until(lambda: len(turns.asked) == 1)
        turns.asked[0].set_result(None)
        waiting.send(GET.format("/waiting"))
        await until(lambda: len(turns.asked) == 2)
        served.connections.close()
        late.send(GET.format("/late"))
        assert await waiting.rest() == b""
        assert await late.rest() == b""
        going_on.set()
        assert (await first.answer()).body == b"hello"
    assert answered == []


async def test_an_answer_that_ends_as_its_time_is_up_is_no_defect(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    given_up = False

    async def slow(request: web.Request) -> web.Response:
        nonlocal given_up
        while not given_up:
            await asyncio.sleep(0)
            waiting = request.protocol._handler_waiter  # which aiohttp has once it shuts down
            given_up = waiting is not None and waiting.cancelled()
        return web.Response()

    app.router.add_get("/it/slow", slow)
    async with serving(app) as served:
        client = await served.open()
        client.send(GET.format("/it/slow"))
        await until(lambda: [each.idle for each in served.connections._open] == [False])
        served.connections.close()
        await served.connections.server.shutdown(0.05)
        assert (await client.answer()).status == 200
    assert given_up
    assert not caplog.records
