"""Pictures of runs: one file each."""
