"""Is a running exporter alive? For the Dockerfile's HEALTHCHECK."""

import ssl
import sys
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

TIMEOUT_SECONDS = 4.0
# Whoever asks for a login, or for fewer requests, is alive.
ALIVE = {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}


def healthcheck(url: str) -> int:
    """0 if the exporter at `url` answers, else 1 with the cause on standard error."""
    trust_anybody = ssl.create_default_context()
    trust_anybody.check_hostname = False
    trust_anybody.verify_mode = ssl.CERT_NONE
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trust_anybody))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            status = answer.status
    except HTTPError as error:
        status = error.code
    except (URLError, HTTPException, OSError, ValueError) as error:
        print(f"{url}: {getattr(error, 'reason', error) or 'no HTTP answer'}", file=sys.stderr)
        return 1
    if status not in ALIVE:
        print(f"{url}: HTTP {status}", file=sys.stderr)
    return 0 if status in ALIVE else 1
