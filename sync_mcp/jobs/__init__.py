"""Paid work between the client and the tools: what must not be lost when a call is."""
