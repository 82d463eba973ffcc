"""What goes on when the call that began it has ended, and every wait for the API."""
