"""Who is told how a search goes: one file each."""
