"""Publish a run or a sweep: a record in experiments/ and an overlay in conf/experiment/."""
