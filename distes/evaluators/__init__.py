"""Where episodes run: in this process, or on Ray workers."""
