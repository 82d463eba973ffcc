"""The hosts that are driven, each with its exact version and what docs/hosts.md promises of it."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from tests.hosts.flow import Sight

HERE = Path(__file__).parent
Transport = Literal["stdio", "http"]


class Host(BaseModel):
    """A host or framework, as hosts.toml has it."""

    model_config = ConfigDict(extra="forbid")

    title: str
    packages: list[str]
    """What pip or npm installs, the host itself first, each at one version."""
    player: str
    """The script that drives it."""
    transports: list[Transport] = ["stdio", "http"]
    command: Literal["sync-mcp", "python -m sync_mcp"] = "sync-mcp"
    """What starts the server; some hosts start known commands alone."""
    text: str
    structured: str
    picture: str
    error: str
    note: str = ""
    """The one thing to know, for docs/hosts.md."""

    @property
    def of_npm(self) -> bool:
        """Whether npm installs it, and not pip."""
        return "==" not in self.packages[0]

    @property
    def package(self) -> str:
        """The package of the host itself, with its extras."""
        return self._pin[0]

    @property
    def version(self) -> str:
        """The version of that package."""
        return self._pin[2]

    @property
    def _pin(self) -> tuple[str, str, str]:
        return self.packages[0].rpartition("@" if self.of_npm else "==")

    @property
    def promised(self) -> Sight:
        """What is to be seen of it."""
        return Sight(text=self.text, structured=self.structured, picture=self.picture, error=self.error)


def read_hosts() -> dict[str, Host]:
    """Return the hosts by their names."""
    return TypeAdapter(dict[str, Host]).validate_python(
        tomllib.loads((HERE / "hosts.toml").read_text(encoding="utf-8"))
    )
