"""Looking at what was paid, and settling what hangs in doubt."""
