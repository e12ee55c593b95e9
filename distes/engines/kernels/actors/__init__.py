"""Policies as kernels: a file stands for the policy module of the same name."""
