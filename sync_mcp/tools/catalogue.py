"""Every tool of the server, in the order in which they are listed."""

from sync_mcp.tools import account, assets, generations, models, voices
from sync_mcp.tools import results as files
from sync_mcp.tools.registry import Tools

TOOLS: Tools = (
    *generations.TOOLS,
    *assets.TOOLS,
    *files.TOOLS,
    *voices.TOOLS,
    *models.TOOLS,
    *account.TOOLS,
)
