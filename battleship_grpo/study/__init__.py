"""What `compare` and `benchmark` measure."""
