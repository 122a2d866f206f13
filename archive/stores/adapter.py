"""Makes `requests`, which the SDKs of Google and Azure use, send as `lines.py` does, and check the ranges of answers."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry

from archive.stores.lines import CONNECTIONS, in_pieces
from archive.stores.ranges import OtherRange, length_of

_POOLS = {"http": in_pieces(HTTPConnectionPool), "https": in_pieces(HTTPSConnectionPool)}


class InPiecesAdapter(HTTPAdapter):
    """An adapter whose connections send in pieces. It does not retry; the SDK does."""

    def __init__(self) -> None:
        super().__init__(
            pool_maxsize=CONNECTIONS, max_retries=Retry(total=False, redirect=False, raise_on_status=False)
        )

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request. The SDKs trust an answer to be the range that they asked for.

        Raises:
            OtherRange: it is another.
        """
        response = super().send(request, *args, **kwargs)
        asked = request.headers.get("x-ms-range") or request.headers.get("range") or ""
        asked = asked.decode("latin-1") if isinstance(asked, bytes) else asked
        is_whole = response.status_code == 200 and asked.startswith("bytes=0-")
        if asked and response.status_code in (200, 206) and not is_whole:
            try:
                length_of(asked, response.headers.get("content-range", ""))
            except OtherRange:
                response.close()
                raise
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of a proxy's connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
