"""Faces in frames that come without annotations: landmarks, action units, head pose and crops."""
