"""Starts the server: the folders that the user has chosen come as arguments, one each."""

import sys

from sync_mcp.cli.main import main

folders = [folder.replace("${HOME}", "~") for folder in sys.argv[1:]]
sys.argv[1:] = [word for folder in folders for word in ("--root", folder)]
main()
