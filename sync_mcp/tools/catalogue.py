"""Every tool of the server, in the order in which they are listed."""

from sync_mcp.tools import account, generations
from sync_mcp.tools.registry import Tools

TOOLS: Tools = (*generations.TOOLS, *account.TOOLS)
