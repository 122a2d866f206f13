"""Import a module only when something of it is used."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def import_lazily(name: str) -> None:
    """Make every later `import NAME` return a module that loads at its first use.

    Use it for modules that a library imports and we never need. `from NAME import ...` still loads the module at once.
    (`importlib.util.LazyLoader` is not enough: in Python 3.11 the second `import NAME` loads the module.)

    Args:
        name: of a top-level module; a loaded one stays as it is.
    """
    sys.modules.setdefault(name, _Lazy(name))


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
