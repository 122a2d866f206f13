"""The price table: what the bytes of a storage class cost a month. The user can change it (`CALLVAULT_PRICES_FILE`).

`prices.toml` beside this file is the table that comes with Callvault. Its prices are examples, with their date and region;
it explains each line. Sources: aws.amazon.com/s3/pricing, cloud.google.com/storage/pricing and
azure.microsoft.com/pricing/details/storage/blobs; for the overhead of Glacier's classes
docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from text.errors import UserError

EXAMPLES = Path(__file__).with_name("prices.toml")
GIB = 1024**3

_Amount = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]  # so neither infinity nor, as every comparison fails, NaN
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # what a float holds to the last digit
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one storage class costs; `prices.toml` explains each line."""

    gib_month: _Amount
    per_1000_month: _Amount = 0.0
    minimum_bytes: _Count = 0
    overhead_bytes: _Count = 0
    hot_overhead_bytes: _Count = 0
    minimum_days: _Count = 0
    read_gib: _Amount = 0.0
    move_1000: _Amount = 0.0


class _StorePrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    place: _Text
    default: _Text
    classes: dict[_Text, Price]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    currency: _Text
    date: _Text
    is_example: bool = False
    file: _StorePrices | None = None
    s3: _StorePrices | None = None
    gs: _StorePrices | None = None
    az: _StorePrices | None = None


@dataclass(frozen=True)
class Prices:
    """The prices of one store.

    Attributes:
        currency: such as `USD`.
        date: of the prices, as the table writes it.
        place: the provider and region.
        is_example: whether they are the examples that come with Callvault.
        source: the file.
        default: the class of objects that were written without a class.
        classes: the prices by storage class, as the store names it.
    """

    currency: str
    date: str
    place: str
    is_example: bool
    source: str
    default: str
    classes: dict[str, Price]

    def month(self, storage_class: str | None, size_bytes: int, objects: int = 1) -> float | None:
        """What objects cost a month; None if the table has no price of their class.

        Args:
            storage_class: as the store names it; None: the class of objects that were written without a class.
            size_bytes: their size together. The smallest size that the store bills is compared with their mean size.
            objects: how many.
        """
        price = self.classes.get(storage_class or self.default)
        if price is None:
            return None
        billed_bytes = max(size_bytes, price.minimum_bytes * objects) + price.overhead_bytes * objects
        cost = billed_bytes / GIB * price.gib_month + objects / 1000 * price.per_1000_month
        if price.hot_overhead_bytes:
            hot = self.classes.get(self.default)
            if hot is None:
                return None
            cost += price.hot_overhead_bytes * objects / GIB * hot.gib_month
        return cost


def read_prices(archive_url: str, file: Path | None = None) -> Prices:
    """Read the prices of the store of an archive.

    Args:
        archive_url: its address; the scheme names the store.
        file: the user's table; None for the examples.

    Returns:
        The prices. If the table has no prices of this store, no class has a price.

    Raises:
        UserError: the file cannot be read or is no price table; the text says where.
    """
    source = file or EXAMPLES
    try:
        table = msgspec.toml.decode(source.read_bytes(), type=_Table)
    except OSError as error:
        raise UserError(f"{source}: the price table cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError) as error:  # the second: not TOML, or not UTF-8
        what = " ".join(str(error).split())
        raise UserError(
            f"{source}: not a price table: {what}; `callvault cost --print-prices` prints one to begin with"
        ) from None
    scheme = archive_url.partition("://")[0]
    found: Any = getattr(table, scheme, None)
    if found is None:
        return Prices(table.currency, table.date, f"no prices of {scheme}://", table.is_example, str(source), "", {})
    if found.default not in found.classes:
        what = f"{scheme}.default: {found.default!r} has no price; add [{scheme}.classes.{found.default}]"
        raise UserError(f"{source}: not a price table: {what}")
    return Prices(
        table.currency, table.date, found.place, table.is_example, str(source), found.default, dict(found.classes)
    )
