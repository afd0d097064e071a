"""A pack in chunks: written once to a folder or an S3-compatible store, and streamed with the pairs of a pack."""
