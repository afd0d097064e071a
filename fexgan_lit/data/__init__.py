"""From files on disk to batches of source/target pairs."""
