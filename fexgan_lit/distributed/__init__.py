"""One run on several devices: who is who, how the processes start, average their gradients and end together."""
