"""The page in the browser: its requests, its models, and the server."""
