"""How runs are shown."""
