"""Environments and policies as machine code, for the compiled engine."""
