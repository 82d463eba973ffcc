"""Every tool of the server, in the order in which they are listed."""

from sync_mcp.tools import core
from sync_mcp.tools.toolsets import Catalogue

TOOLS = Catalogue(core.TOOLS, late=("library", "usage", "voices", "dialogue", "batch", "campaigns"))
