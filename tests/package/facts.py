"""What every part of the package draws on: the version, the address, and whether the index has it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sync_mcp import __version__

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / ".package"
PLACEHOLDER = "OWNER"
"""What stands in the address for as long as it is not known."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the texts of the package say of the project."""

    version: str
    repository: str
    """The project's address: `https://github.com/...`, without a slash at its end."""
    is_on_index: bool
    """Whether the package index has the project by its name."""

    @classmethod
    def read(cls) -> Self:
        """Read them from pyproject.toml and from the package."""
        project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        place = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
        return cls(version=__version__, repository=place["repository"], is_on_index=place["on_index"])

    @property
    def owner(self) -> str:
        """Whose the repository is."""
        return self.repository.split("/")[-2]

    @property
    def registry_name(self) -> str:
        """The server's name in the MCP registry, which takes it from who owns the repository."""
        return f"io.github.{self.owner}/{self.repository.split('/')[-1]}"

    @property
    def requirement(self) -> str:
        """What to install: by its name once the index has it, until then from the repository."""
        return "sync-mcp[media]" if self.is_on_index else f"sync-mcp[media] @ git+{self.repository}"

    @property
    def wheel(self) -> str:
        """The file name of the wheel."""
        return f"sync_mcp-{self.version}-py3-none-any.whl"

    @property
    def sdist(self) -> str:
        """The file name of the source distribution."""
        return f"sync_mcp-{self.version}.tar.gz"

    @property
    def bundle(self) -> str:
        """The file name of the bundle for Claude Desktop."""
        return f"sync-mcp-{self.version}.mcpb"

    def fill(self, template: str, **more: str) -> str:
        """Return `template` with each `@NAME@` replaced; `more` holds further names, in small letters."""
        names = {
            "version": self.version,
            "repository": self.repository,
            "registry_name": self.registry_name,
            "bundle": self.bundle,
            **more,
        }
        for name, value in names.items():
            template = template.replace(f"@{name.upper()}@", value)
        return template
