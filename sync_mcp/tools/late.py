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
        module, _, name = self.place.partition(":")
        function: Any = getattr(import_module(f"sync_mcp.tools.{module}"), name)
        return function
