"""This machine: our folders on it, a socket that listens, and how this installation is started again."""
