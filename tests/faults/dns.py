"""A small DNS server that answers as it is told, or not at all."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class DnsServer(asyncio.DatagramProtocol):
    """Answers every question with `rcode` (3: NXDOMAIN), with `knows` for 0, with nothing for None.

    It does so `delay` seconds late.

    https://www.rfc-editor.org/rfc/rfc1035#section-4.1
    """

    rcode: int | None
    knows: str = "127.0.0.1"
    delay: float = 0.0
    questions: int = 0
    transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """As c-ares takes it."""
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self.questions += 1
        if self.rcode is None or self.transport is None:
            return
        question = data[12 : data.index(b"\0", 12) + 5]
        asks_for_ipv4 = question[-4:-2] == b"\0\1"
        found = self.rcode == 0 and asks_for_ipv4
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(self.knows)
        head = data[:2] + struct.pack(">5H", 0x8180 | self.rcode, 1, found, 0, 0)
        reply = head + question + record * found
        asyncio.get_running_loop().call_later(self.delay, self.transport.sendto, reply, addr)


@asynccontextmanager
async def dns_server(
    rcode: int | None, address: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: DnsServer(rcode), local_addr=address)
    server.transport = transport
    try:
        yield server
    finally:
        transport.close()
