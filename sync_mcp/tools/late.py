"""The one door for late loading: who lists the tools needs nothing of what their first call loads."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, ParamSpec, TypeVar

GivenP = ParamSpec("GivenP")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Late(Generic[GivenP, ResultT]):
    """A function that is loaded, with its module, by its first call.

    `place` is the module in `sync_mcp.tools` and the function there, as in "jobs:get_generation".
    """

    place: str

    def __call__(self, *given: GivenP.args, **named: GivenP.kwargs) -> ResultT:
        return self.load()(*given, **named)

    def load(self) -> Callable[GivenP, ResultT]:
        """Return the function itself."""
        function: Any = load(self.place)
        return function


def load(place: str) -> object:
    """Return what has a name in a module of `sync_mcp.tools`, as in "jobs:get_generation"."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"sync_mcp.tools.{module}"), name)
