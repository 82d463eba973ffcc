"""The rules of the ledger, each inside one transaction of its store."""
