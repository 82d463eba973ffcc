"""Where the ledger lies."""
