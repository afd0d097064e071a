"""Animation: keyframes, driving clips, and the film that comes of them."""
