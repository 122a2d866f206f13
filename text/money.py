"""Write amounts of money."""

from __future__ import annotations


def format_money(amount: float | None, currency: str) -> str:
    """An amount with its currency: `12.30 USD`; four digits where two would show nothing; `unknown` for None."""
    if amount is None:
        return "unknown"
    if 0 < abs(amount) < 0.0001:
        return f"under 0.0001 {currency}"
    return f"{amount:,.4f} {currency}" if 0 < abs(amount) < 0.01 else f"{amount:,.2f} {currency}"
