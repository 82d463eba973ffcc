"""The media of the sandbox: fetched, measured, rendered and stored."""
