"""What went wrong, as exactly one reason: from an error of the connection, or from an S3 answer."""

import errno
import os
import ssl

import aiohttp

from exporter.hints import hint_for_answer, hint_for_code, hint_for_connection
from exporter.outcome import Failure, Phase, Reason
from exporter.s3.client import Answer, InvalidAnswerError, LostConnectionError
from exporter.s3.codes import reason_of
from exporter.s3.credentials import CredentialsError
from exporter.s3.trace import Trace
from exporter.s3.xml import S3Error

_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_WAITING_FOR = {
    Phase.RESOLVE: "the name to resolve",
    Phase.CONNECT: "the connection",
    Phase.TLS: "the TLS handshake",
    Phase.PROCESSING: "the first byte of the answer",
    Phase.TRANSFER: "the rest of the answer",
}


def explain_error(error: Exception, trace: Trace, timeout: float) -> Failure:
    """The failure behind an exception of `Client.send`. `timeout` is the deadline in seconds."""
    # The exception's own text is not repeated: it may hold a URL with a password of a proxy.
    if isinstance(error, OSError) and error.errno in _OURS:
        hint = "Raise what the exporter may use: LimitNOFILE of systemd, --ulimit nofile of docker, memory."
        return Failure(Reason.OTHER, f"this machine fails: {_os_message(error)}", hint=hint, ours=True)
    match error:
        case TimeoutError():
            waiting = f", waiting for {_WAITING_FOR[trace.last_phase]}" if trace.last_phase else ""
            return _failure(Reason.TIMEOUT, f"no complete answer within {timeout:g}s{waiting}")
        case CredentialsError():
            return _failure(Reason.AUTH, str(error), code="NoCredentials")
        case aiohttp.ClientConnectorDNSError():
            return _failure(Reason.DNS, f"cannot resolve {error.host}: {error.strerror or 'no address'}")
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            detail = getattr(cause, "verify_message", "") or str(cause)
            return _failure(Reason.TLS, f"the certificate of {error.host} is not valid: {detail}")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            reason = getattr(error.__cause__ or error, "reason", None)
            return _failure(Reason.TLS, f"the TLS handshake failed: {reason or type(error).__name__}")
        case aiohttp.ClientHttpProxyError():
            return _failure(Reason.CONNECT, f"the proxy answered HTTP {error.status}")
        case aiohttp.ClientProxyConnectionError():
            return _failure(Reason.CONNECT, f"cannot reach the proxy: {_os_message(error.os_error)}")
        case aiohttp.ClientConnectorError() if trace.last_phase is Phase.TLS:
            return _failure(
                Reason.TLS, f"connection lost in the TLS handshake: {_os_message(error.os_error)}"
            )
        case aiohttp.ClientConnectorError():
            where = f"{error.host}:{error.port}"
            return _failure(Reason.CONNECT, f"cannot connect to {where}: {_os_message(error.os_error)}")
        case LostConnectionError():
            lost = error.__cause__
            detail = _os_message(lost) if isinstance(lost, OSError) else "closed by the other side"
            return _failure(Reason.CONNECT, f"connection lost before the answer: {detail}")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError():
            return _failure(Reason.CONNECT, "connection lost in the middle of the answer")
        case InvalidAnswerError():
            return _failure(Reason.SERVER, "the answer is not valid HTTP")
        case _:
            return _failure(Reason.OTHER, f"unexpected {type(error).__name__}")


def explain_answer(answer: Answer, s3: S3Error) -> Failure | None:
    """The failure that an HTTP status and S3's error code speak of, or None for 2xx."""
    if 200 <= answer.status < 300:
        return None
    reason = reason_of(answer.status, s3.code)
    said = ": ".join(part for part in (s3.code, s3.message) if part)
    message = f"HTTP {answer.status}" + (f" {said}" if said else "")
    if s3.code == "RequestTimeTooSkewed" and answer.clock_skew is not None:
        ahead = "ahead of" if answer.clock_skew > 0 else "behind"
        message += f" (this machine's clock is {abs(answer.clock_skew):.0f}s {ahead} the storage's)"
    return Failure(reason, message, s3.code, hint_for_answer(answer.status, s3))


def _failure(reason: Reason, message: str, code: str = "") -> Failure:
    return Failure(reason, message, code, hint_for_code(code) or hint_for_connection(message))


def _os_message(error: OSError) -> str:
    # asyncio puts the address into strerror; the number alone gives the system's plain words.
    return os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__
