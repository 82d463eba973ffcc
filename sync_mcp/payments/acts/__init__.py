"""What costs money: each kind of act in a module of its own, with what the rest of payments asks of it."""
