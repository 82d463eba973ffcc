"""Everything between a wish and the money: what must not be lost when a call is."""
