"""Where the time of an iteration goes: named ranges around the parts of a system, timed and traced."""
