"""Videos: reading them, and cutting frames out of them."""
