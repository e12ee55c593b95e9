"""What is solved: environments, functions, contexts, and whether episodes are pure."""
