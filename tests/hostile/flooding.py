"""A few callers who ask more than anybody could answer: `python -m tests.hostile.flooding PORT CALLERS`.

Each keeps twenty requests under way on a connection of its own, and reads what comes. Says so once all have
had an answer, and ends when the other side has closed every connection, or after a while.
"""

import selectors
import socket
import sys
import time

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
UNDER_WAY = 20
SECONDS = 20.0


def main() -> None:
    port, callers = int(sys.argv[1]), int(sys.argv[2])
    waiting = selectors.DefaultSelector()
    for _ in range(callers):
        caller = socket.create_connection(("127.0.0.1", port))
        caller.setblocking(False)
        caller.send(REQUEST * UNDER_WAY)
        waiting.register(caller, selectors.EVENT_READ)
    silent = set(waiting.get_map())
    until = time.monotonic() + SECONDS
    while waiting.get_map() and time.monotonic() < until:
        for key, _ in waiting.select(0.1):
            if not ask_again(key.fileobj):
                waiting.unregister(key.fileobj)
            if silent:
                silent.discard(key.fd)
                if not silent:
                    sys.stdout.write("flooding\n")
                    sys.stdout.flush()


def ask_again(caller: object) -> bool:
    """As often as it was answered; whether the connection is still there."""
    assert isinstance(caller, socket.socket)
    try:
        read = caller.recv(1 << 18)
        caller.send(REQUEST * read.count(b"HTTP/1.1 "))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return bool(read)


if __name__ == "__main__":
    main()
