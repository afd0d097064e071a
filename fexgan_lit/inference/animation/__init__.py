"""Animation: keyframes, driving clips, and video files."""
