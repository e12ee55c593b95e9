"""Episodes of a run, seen again."""
