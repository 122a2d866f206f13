"""Write numbers of bytes."""

from __future__ import annotations


def format_size(count: float) -> str:
    """Bytes in a short form, in powers of ten: `950 B`, `3.6 MB`."""
    left = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if left < 999.95 or (unit == "B" and left < 1000):
            return f"{left:.0f} B" if unit == "B" else f"{left:.1f} {unit}"
        left /= 1000
    return f"{left:,.1f} TB"
