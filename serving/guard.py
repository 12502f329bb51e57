"""Who may ask: names of the host, origins of pages and the API key are checked before a request is read."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.options import ServiceOptions

GUARDED = ("/api/", "/metrics")  # what the API key protects; the page holds no answers
# The page loads nothing from elsewhere and runs no code but its own files.
SAFE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
                               "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}


class Guard:
    """ASGI middleware that refuses what `ServiceOptions` do not allow, and marks every answer with `SAFE_HEADERS`.

    A page of another site can have its own name resolve to this machine (DNS rebinding), but cannot choose which `Host`
    its requests name. Addresses cannot be rebound.
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions, key: str | None) -> None:
        """Wrap `app`."""
        self.app, self.options, self.key = app, options, key
        self.names = {name.lower() for name in ("localhost", options.host, *options.allow_host)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin", "")
        allowed = origin in self.options.allow_origin
        extra = {**SAFE_HEADERS, **(_cross_origin(origin) if allowed else {})}

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((name.encode(), value.encode())
                                                             for name, value in extra.items())]
            await send(message)

        refusal: Any = self._refuse(scope["path"], scope["method"], headers, allowed)
        await (refusal or self.app)(scope, receive, send_marked)

    def _refuse(self, path: str, method: str, headers: Mapping[str, str], allowed: bool) -> JSONResponse | None:
        """The answer to a request that is not let in; None for one that is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(host):
            return JSONResponse({"error": "this service has another name; --allow-host names further ones"}, 421)
        if origin is not None and not allowed and urlsplit(origin).netloc.lower() != host.lower():
            return JSONResponse({"error": "pages of other origins may not ask; --allow-origin names those that may"},
                                403)
        if method == "OPTIONS" and allowed:
            return JSONResponse(None, 200)
        if self.key and path.startswith(GUARDED) and not self._has_key(headers):
            return JSONResponse({"error": "the API key is missing or wrong; send it as Authorization: Bearer KEY"}, 401,
                                {"www-authenticate": "Bearer"})
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""  # without the port, in small letters
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        sent = headers.get("authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(sent.encode(), (self.key or "").encode())


def _cross_origin(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, "vary": "origin",
            "access-control-allow-methods": "GET, POST, DELETE", "access-control-max-age": "600",
            "access-control-allow-headers": "authorization, content-type"}
