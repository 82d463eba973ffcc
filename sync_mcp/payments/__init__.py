"""Everything between a request and the money: what must not be lost when a call is."""
