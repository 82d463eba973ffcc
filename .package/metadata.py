"""What an index shows of the project: its addresses, and a README whose links lead somewhere from there."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:)(?P<target>[^)\s]+)\)")


class Metadata(MetadataHookInterface):
    """Fills the fields that draw on the project's address, which stands in pyproject.toml once."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the addresses and the README into `metadata`."""
        repository = str(self.config["repository"])
        tag = f"v{metadata['version']}"
        metadata["urls"] = {
            "Homepage": repository,
            "Documentation": f"{repository}/blob/{tag}/README.md",
            "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
            "Source": repository,
        }
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _with_whole_links(text, repository, tag),
        }


def _with_whole_links(text: str, repository: str, tag: str) -> str:
    """Return the README with each link as a whole URL: an index knows neither its files nor its headings."""

    def whole(link: re.Match[str]) -> str:
        place = f"README.md{link['target']}" if link["target"].startswith("#") else link["target"]
        how = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({repository}/{how}/{tag}/{place})"

    return _LINK.sub(whole, text)
