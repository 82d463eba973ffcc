"""python -m sync_mcp"""

from sync_mcp.cli.main import main

if __name__ == "__main__":
    main()
