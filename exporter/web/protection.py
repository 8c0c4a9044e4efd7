"""Headers by which a browser takes an answer for what it is, and lets no other page near it."""

from collections.abc import Mapping

from exporter.web.paths import in_api

LANDING_PAGE = "/"


def protective_headers(path: str, configured: Mapping[str, str]) -> dict[str, str]:
    """Those for an answer to a request of `path`, beside the headers that the web config asks for."""
    # Where a browser knows frame-ancestors it ignores X-Frame-Options, so the two have to agree.
    framed = configured.get("X-Frame-Options") == "sameorigin"
    style = "style-src 'unsafe-inline'; " if path == LANDING_PAGE else ""
    ancestors = "'self'" if framed else "'none'"
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "deny",
        "Content-Security-Policy": (
            f"default-src 'none'; {style}base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
        ),
        "Referrer-Policy": "no-referrer",
    }
    if in_api(path):
        headers["Cache-Control"] = "no-store"
    return headers
