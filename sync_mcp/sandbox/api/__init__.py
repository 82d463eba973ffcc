"""The API's own side of the sandbox: its routes, the rules of a request, its plans and its error codes."""
