"""What `compare` and `benchmark` work out."""
