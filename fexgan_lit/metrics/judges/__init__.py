"""Networks that judge generated frames: their training, their files, and judges of the user's own."""
