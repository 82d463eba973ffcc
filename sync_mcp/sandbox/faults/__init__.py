"""What goes wrong in the sandbox on command, and what is written down of it."""
