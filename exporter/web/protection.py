"""Headers by which a browser takes an answer for what it is, and lets no other page near it."""

from collections.abc import Mapping

from exporter.web.paths import in_api

STATUS_PAGE = "/"
_PAGE_MAY = (
    "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; "
)
"""Its own script and style, no text that becomes markup or code; its forms send to itself alone."""


def protective_headers(path: str, configured: Mapping[str, str]) -> dict[str, str]:
    """Those for an answer to a request of `path`, beside the headers that the web config asks for."""
    # Where a browser knows frame-ancestors it ignores X-Frame-Options, so the two have to agree.
    framed = configured.get("X-Frame-Options") == "sameorigin"
    page, form = (_PAGE_MAY, "'self'") if path == STATUS_PAGE else ("", "'none'")
    ancestors = "'self'" if framed else "'none'"
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "deny",
        "Content-Security-Policy": (
            f"default-src 'none'; {page}base-uri 'none'; form-action {form}; frame-ancestors {ancestors}"
        ),
        "Referrer-Policy": "no-referrer",
    }
    if in_api(path):
        headers["Cache-Control"] = "no-store"
    return headers
