"""Outside input at its worst."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

texts = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        ["", " ", "\x00", "../../etc/passwd", "a/b", "%2e%2e", "\r\nX-Injected: 1", "\x1b[2J", "\u202e", "é" * 300,
         "x" * 5_000, "{}", "null", "NaN", "0", "-1", "9" * 400, "2026-13-45", "2026-11-25T10:00:00Z", "0000-00-00",
         "9999-12-31T23:59:59.999999999Z", "s3://", "gs://b/k", "https://[", "https://x.blob.core.windows.net/c/b?sig=1"]
    ),
)  # fmt: skip

scalars: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**30, -(10**30)]), st.floats(), texts
)

documents: Any = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)

DEEP = b"[" * 200_000


def like(*names: str) -> Any:
    """A dictionary that has some of these names, each with anything."""
    return st.dictionaries(st.sampled_from(names), documents, max_size=len(names))
