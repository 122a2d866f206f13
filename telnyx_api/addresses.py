"""Which download addresses are allowed: check the URL, resolve its name once, check every IP address, connect to those.

A name that is checked and then resolved again to connect may lead elsewhere by then (DNS rebinding). So only the connection
resolves it. The Host header, SNI and the certificate stay those of the name.
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.request

import httpx

from config.values import is_local_host
from telnyx_api.download_transport import DownloadTransport

_IPV6_PUBLIC = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4: all that is global unicast so far
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1: the last 32 bits are an IPv4 address


class Forbidden(Exception):
    """An address that must not be fetched; the text says why."""


def is_public(text: str) -> bool:
    """Whether an IP address is public unicast. An IPv6 address that embeds an IPv4 address counts as that."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is None and address not in _IPV6_PUBLIC:
            return False
        address = carried or address
    return address.is_global and not address.is_multicast and not address.is_reserved


def allowed(url: str, *, is_local: bool) -> httpx.URL:
    """Read a URL, if its text alone allows to fetch it.

    Args:
        url: the URL to fetch.
        is_local: whether plain HTTP, this machine and private networks are allowed.

    Raises:
        Forbidden: it must not be fetched.
    """
    try:
        parsed = httpx.URL(url)  # as it will be read to connect
        scheme, host = parsed.scheme, parsed.host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Forbidden(f"invalid download address: {error}") from None
    if scheme not in ("http", "https") or not host or parsed.userinfo:
        raise Forbidden(f"invalid download address: expected http or https, a host and no user, got scheme {scheme!r}")
    if is_local:
        return parsed
    if scheme != "https":
        raise Forbidden(f"download address of {host!r} uses http; expected https")
    if is_local_host(host) or (_is_ip(host) and not is_public(host)):
        raise Forbidden(f"{host!r} is not on the public internet")
    return parsed


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def connect_publicly(host: str, port: int, timeout_seconds: float | None) -> socket.socket:
    """Connect to the first address of a name that answers, if all of them are public.

    Raises:
        Forbidden: an address is not public; none is tried.
        OSError: the name has no address, or none answers.
    """
    failed = OSError(f"{host!r} has no IP address")
    for address in _addresses(host, port):
        try:
            return socket.create_connection((address, port), timeout_seconds)
        except OSError as error:
            failed = error
    raise failed


def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, resolved once, all of them public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Forbidden(f"{host!r} is not a host name") from None
    except OSError as error:
        raise OSError(f"{host!r} does not resolve: {error}") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if private := [address for address in addresses if not is_public(address)]:
        raise Forbidden(f"{host!r} resolves to {private[0]}, which is not on the public internet")
    return addresses


class _UnlessBypassed(httpx.BaseTransport):
    """A proxy for every host that `NO_PROXY` does not name."""

    def __init__(self, proxy: httpx.BaseTransport, direct: httpx.BaseTransport) -> None:
        self._proxy = proxy
        self._direct = direct

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_direct = urllib.request.proxy_bypass(request.url.host)
        return (self._direct if is_direct else self._proxy).handle_request(request)

    def close(self) -> None:
        self._proxy.close()
        self._direct.close()


def download_transport(connections: int, *, is_local: bool) -> httpx.BaseTransport | None:
    """The transport of downloads; None for httpx's own, with its proxies.

    With a proxy in the environment, the proxy resolves names and decides itself, except for the hosts of `NO_PROXY`.

    Args:
        connections: the most connections that are kept.
        is_local: whether addresses that are not public are allowed.
    """
    proxies = urllib.request.getproxies()
    if is_local:
        is_direct = proxies.keys().isdisjoint(("http", "https", "all"))
        return DownloadTransport(connections, _connect) if is_direct else None
    direct = DownloadTransport(connections, connect_publicly)
    if not (proxy := proxies.get("https") or proxies.get("all")):
        return direct
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    url = proxy if "://" in proxy else f"http://{proxy}"
    return _UnlessBypassed(httpx.HTTPTransport(proxy=url, limits=limits), direct)


def _connect(host: str, port: int, timeout_seconds: float | None) -> socket.socket:
    return socket.create_connection((host, port), timeout_seconds)
