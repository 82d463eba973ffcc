"""What an assistant sees: the tools, their arguments, and their answers."""
