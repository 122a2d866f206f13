"""Importing a module only once something of it is used."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def import_lazily(name: str) -> None:
    """Have every later `import NAME` give a module that is loaded when something of it is first used.

    For what a library imports and we never use. `from NAME import ...` loads it at once.
    (`importlib.util.LazyLoader` is not enough: in Python 3.11 the second `import NAME` loads the module.)

    Args:
        name: of a module at the top; one that is loaded already stays as it is.
    """
    sys.modules.setdefault(name, _Lazy(name))


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
