"""What carries a server to its clients, whatever that offers: stdio and HTTP."""
