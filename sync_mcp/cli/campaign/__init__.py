"""`sync-mcp campaign`: many videos by one plan and one approval."""
