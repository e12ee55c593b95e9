"""MuJoCo's simulation, called from kernels."""
