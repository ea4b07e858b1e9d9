"""Who may ask the page's server: a page of its own origin, by a name of this machine; and what its answers allow."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Nothing from anywhere else, nothing inline, in nobody's frame.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def guard(hosts: tuple[str, ...] | None = LOOPBACK) -> Middleware:
    """Return the middleware that lets in requests to one of these host names, from no other site.

    None: to any name, where a cookie that belongs to one name is asked for as well.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if hosts is not None:
            _check_host(request, hosts)
        _check_origin(request)
        return await handler(request)

    return check


def _check_host(request: web.Request, hosts: tuple[str, ...]) -> None:
    """Refuse a name that is not this machine's: another site's name may be made to lead here (DNS rebinding)."""
    if host_name(request.host) not in hosts:
        raise web.HTTPMisdirectedRequest(
            text=f"this page is served as {', '.join(hosts)}, not as {request.host[:100]!r}\n"
        )


def _check_origin(request: web.Request) -> None:
    """Refuse what the page of another site sends: no browser asks it before it opens a WebSocket."""
    origin = request.headers.get("Origin")
    is_own = origin is None or urlsplit(origin).netloc == request.host
    if not is_own or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise web.HTTPForbidden(text="another site's page may not ask this one\n")


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser what the page may do: nothing but talk to where it came from."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
