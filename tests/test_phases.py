"""Where the time of an operation went, on both event loops: each phase where it belongs, or absent."""

import asyncio
import ssl

import pytest
import trustme
from cryptography import x509

from exporter.outcome import Operation, Outcome, Phase
from tests.conftest import server_context
from tests.faults.server import Behaviour, answer, drip, fault_server, later, send, send_and_linger
from tests.rig import Rig, rig

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

PUT, GET, HEAD, LIST, DELETE = Operation
ANSWERED = [Phase.PROCESSING, Phase.TRANSFER]
DELAY = 0.1


def measured(r: Rig) -> set[tuple[str, str]]:
    """Operation and phase of every series of the phase histogram."""
    count = "r2_probe_phase_duration_seconds_count{"
    lines = [line.removeprefix(count) for line in r.page() if line.startswith(count)]
    pairs = [dict(pair.split("=") for pair in line.partition("}")[0].split(",")) for line in lines]
    return {(labels["operation"].strip('"'), labels["phase"].strip('"')) for labels in pairs}


def order(outcome: Outcome) -> list[Phase]:
    """The phases of an outcome, which together must fit into its duration."""
    assert all(seconds >= 0 for seconds in outcome.phases.values())
    assert sum(outcome.phases.values()) <= outcome.duration + 1e-9
    return list(outcome.phases)


def assert_slowest(outcome: Outcome, phase: Phase) -> None:
    assert max(outcome.phases, key=outcome.phases.__getitem__) is phase, outcome.phases
    assert outcome.phases[phase] >= DELAY * 0.99, outcome.phases


async def test_an_ip_address_is_not_resolved() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        outcome = (await r.run())[GET]
        assert order(outcome) == [Phase.CONNECT, *ANSWERED]
        assert measured(r) == {("get", "connect"), ("get", "processing"), ("get", "transfer")}


async def test_a_name_is_resolved() -> None:
    async with fault_server(host="localhost") as server, rig(server.endpoint, GET) as r:
        outcome = (await r.run())[GET]
        assert order(outcome) == [Phase.RESOLVE, Phase.CONNECT, *ANSWERED]


async def test_tls_has_its_own_phase(serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with (
        fault_server(serving, host="localhost") as server,
        rig(server.endpoint, GET, tls=trusting) as r,
    ):
        outcome = (await r.run())[GET]
        assert order(outcome) == list(Phase)
        assert measured(r) == {("get", phase) for phase in Phase}


async def test_a_slow_handshake_is_tls_and_not_connect(
    serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with fault_server(serving) as server, rig(server.endpoint, GET, tls=trusting) as r:
        server.accept_delay = DELAY
        assert_slowest((await r.run())[GET], Phase.TLS)


async def test_a_slow_first_byte_is_processing() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        server.script[GET] = later(DELAY, server.healthy)
        assert_slowest((await r.run())[GET], Phase.PROCESSING)


async def test_a_slow_body_is_transfer() -> None:
    async with fault_server() as server, rig(server.endpoint, PUT, GET, object_size="3B") as r:
        server.script[GET] = drip(b"abc", DELAY, head=answer(200, Content_Length="3"))
        assert_slowest((await r.run())[GET], Phase.TRANSFER)


async def test_a_kept_connection_skips_what_it_need_not_do(
    serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with (
        fault_server(serving, host="localhost") as server,
        rig(server.endpoint, *Operation, tls=trusting) as r,
    ):
        first, second = await r.run(), await r.run()
        assert order(first[PUT]) == list(Phase)
        assert [order(each) for each in (*first.values(), *second.values())][1:] == [ANSWERED] * 9
        once = {("put", phase) for phase in (Phase.RESOLVE, Phase.CONNECT, Phase.TLS)}
        assert measured(r) == once | {(name, phase) for name in Operation for phase in ANSWERED}
        assert server.connections == 1


@pytest.mark.parametrize(
    ("every", "fresh"),
    [
        (0, [True, False, False, False, False, False, False]),
        (1, [True] * 7),
        (2, [True, False, True, False, True, False, True]),
        (3, [True, False, False, True, False, False, True]),
    ],
)
async def test_every_so_many_runs_connect_anew(every: int, fresh: list[bool]) -> None:
    async with (
        fault_server() as server,
        rig(server.endpoint, PUT, GET, DELETE, fresh_connection_every=every) as r,
    ):
        connected = []
        for _ in fresh:
            outcomes = await r.run()
            assert all(each.success and not each.reconnected for each in outcomes.values())
            assert [Phase.CONNECT in outcomes[each].phases for each in (GET, DELETE)] == [False, False]
            connected.append(Phase.CONNECT in outcomes[PUT].phases)
        assert connected == fresh
        assert server.connections == sum(fresh)


@pytest.mark.parametrize("operation", list(Operation))
async def test_certificate_expiry_is_told_by_every_operation(
    operation: Operation, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    leaf = authority.issue_cert("127.0.0.1")
    context = server_context(leaf)
    async with fault_server(context) as server, rig(server.endpoint, operation, tls=trusting) as r:
        expiry = _not_after(leaf)
        for _ in range(2):  # on a fresh connection and on a kept one
            assert (await r.run())[operation].certificate_expiry == expiry
        (line,) = [
            line for line in r.page() if line.startswith("r2_tls_certificate_expiry_timestamp_seconds{")
        ]
        assert float(line.rpartition(" ")[2]) == expiry


async def test_plain_http_has_no_certificate() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        assert (await r.run())[GET].certificate_expiry is None
        assert not [
            line for line in r.page() if line.startswith("r2_tls_certificate_expiry_timestamp_seconds{")
        ]


@pytest.mark.parametrize(
    ("behaviour", "phases"),
    [
        (send_and_linger(b""), [Phase.CONNECT, Phase.PROCESSING]),
        (send_and_linger(answer(200, Content_Length="9")), [Phase.CONNECT, *ANSWERED]),
    ],
    ids=["no answer", "no body"],
)
async def test_a_timeout_has_its_last_phase_and_the_whole_deadline(
    behaviour: Behaviour, phases: list[Phase]
) -> None:
    async with fault_server() as server, rig(server.endpoint, GET, timeout="37ms") as r:
        server.script[GET] = behaviour
        for _ in range(5):
            outcome = (await r.run())[GET]
            assert outcome.failure is not None
            assert outcome.duration >= 0.037
            assert order(outcome) == phases


async def test_a_deadline_set_in_a_busy_loop_is_not_cut_short() -> None:
    async with fault_server() as server, rig(server.endpoint, GET, timeout="20ms") as r:
        server.script[GET] = send_and_linger(b"")
        stop = asyncio.Event()

        async def keep_busy() -> None:
            while not stop.is_set():
                sum(range(20_000))
                await asyncio.sleep(0)

        busy = asyncio.create_task(keep_busy())
        durations = [(await r.run())[GET].duration for _ in range(20)]
        stop.set()
        await busy
        assert min(durations) >= 0.02


async def test_phases_of_a_replaced_connection_are_those_of_the_new_one() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        await r.run()
        server.script[GET] = send(b"", hang_up=True)
        failed = (await r.run())[GET]
        assert failed.reconnected
        assert order(failed) == [Phase.CONNECT, Phase.PROCESSING]


def _not_after(leaf: trustme.LeafCert) -> float:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).not_valid_after_utc.timestamp()
