"""Makes `requests`, which the SDKs of Google and Azure use, send as `lines.py` does."""

from __future__ import annotations

from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry

from archive.stores.lines import CONNECTIONS, in_pieces

_POOLS = {"http": in_pieces(HTTPConnectionPool), "https": in_pieces(HTTPSConnectionPool)}


class InPiecesAdapter(HTTPAdapter):
    """An adapter whose connections send in pieces. It does not retry; the SDK does."""

    def __init__(self) -> None:
        super().__init__(
            pool_maxsize=CONNECTIONS, max_retries=Retry(total=False, redirect=False, raise_on_status=False)
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of a proxy's connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
