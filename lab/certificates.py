"""Has httpx read the certificates that it trusts once in a process instead of once for each client, which takes 15 ms.

Tests make thousands of clients, and nearly all of them speak plain HTTP.
"""

from __future__ import annotations

import os
import ssl
from functools import cache
from typing import Any

import httpx
from httpx._transports import default

_make = httpx.create_ssl_context


def read_certificates_once() -> None:
    """Share one context among the clients of this process, and of those forked from it, that ask for no special one."""
    for module in (default, httpx):  # its own clients ask the first, ours that need a context in their hand the second
        vars(module)["create_ssl_context"] = _create
    _create()


def _create(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    if verify is not True or cert is not None:
        return _make(verify=verify, cert=cert, trust_env=trust_env)
    return _read(*(os.environ.get(name) if trust_env else None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))


@cache
def _read(*named: str | None) -> ssl.SSLContext:
    return _make(trust_env=any(named))
