"""Media on this machine: what a file holds."""
