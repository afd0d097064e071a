"""Many training runs from one command: grids and searches that go on where they were stopped."""
