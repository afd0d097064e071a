"""Publishing a run or a sweep: a record under experiments/ and an overlay under conf/experiment/."""
