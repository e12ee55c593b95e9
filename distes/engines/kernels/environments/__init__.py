"""Environments as kernels: a file stands for the environment module of the same name."""
