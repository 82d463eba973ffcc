"""The Sync REST API as an async Python client."""
