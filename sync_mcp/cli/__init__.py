"""The command sync-mcp."""
