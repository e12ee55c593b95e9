"""How an episode runs: one file an engine, and all agree on what an episode is."""
