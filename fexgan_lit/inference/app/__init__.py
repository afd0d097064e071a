"""The page in the browser: what it can be asked for, the systems behind it, and the server."""
