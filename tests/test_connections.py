"""Connections are shared where that is right, kept apart where not, and closed when unused."""

import asyncio
import ssl

import pytest

from exporter.s3.address import Url
from exporter.s3.client import Answer, Client, tls_context
from exporter.s3.connections import Connections
from tests.faults.server import FaultServer, fault_server

TLS = tls_context(None)


async def ask(
    client: Client, server: FaultServer, *, fresh: bool = False, headers: dict[str, str] | None = None
) -> Answer:
    url = Url.of(f"{server.endpoint}/bucket/key")
    exchange = await client.send("GET", url, headers or {}, timeout=10, max_body=1000, fresh=fresh)
    assert isinstance(exchange.result, Answer), exchange.result
    return exchange.result


async def test_clients_to_the_same_place_share_connections() -> None:
    connections = Connections()
    one, other = (Client(tls=TLS, connections=connections) for _ in range(2))
    async with fault_server() as server:
        for client in (one, other, one):
            await ask(client, server)
        assert server.connections == 1
        await one.close()
        await ask(other, server)
        assert server.connections == 1
        await other.close()
        await ask(one, server)
        assert server.connections == 2
        await one.close()


async def test_other_authorities_are_another_place(serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """Or a client that does not trust a server could talk to it over one that does."""
    connections = Connections()
    trusts, does_not = Client(tls=trusting, connections=connections), Client(tls=TLS, connections=connections)
    async with fault_server(serving) as server:
        await ask(trusts, server)
        url = Url.of(f"{server.endpoint}/bucket/key")
        exchange = await does_not.send("GET", url, {}, timeout=10, max_body=1000)
        assert isinstance(exchange.result, Exception)
        await trusts.close()
        await does_not.close()


async def test_a_fresh_connection_takes_the_place_of_a_kept_one() -> None:
    client = Client(tls=TLS)
    async with fault_server() as server:
        await asyncio.gather(*(ask(client, server) for _ in range(3)))
        kept = server.connections
        for _ in range(5):
            await ask(client, server, fresh=True)
        assert server.connections == kept + 5
        await ask(client, server)
        assert server.connections == kept + 5
        await client.close()


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\rb", "a\0b"])
async def test_no_header_breaks_out_of_its_line(value: str) -> None:
    client = Client(tls=TLS)
    async with fault_server() as server:
        url = Url.of(f"{server.endpoint}/bucket/key")
        exchange = await client.send("GET", url, {"Authorization": value}, timeout=10, max_body=1000)
        assert isinstance(exchange.result, ValueError)
        assert value not in str(exchange.result)
        assert server.requests == []
        await client.close()
