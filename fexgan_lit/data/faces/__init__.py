"""Annotations for frames without any: landmarks, action units, head pose and crops."""
