"""Networks of a trained run as files for other programs, each checked against the network it came from."""
