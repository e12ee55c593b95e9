"""The loop: settings, the search, its sessions, and the solution."""
