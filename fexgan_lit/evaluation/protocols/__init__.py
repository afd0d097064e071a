"""The protocols of an evaluation: quality, augmentation, clips."""
