"""PTX, run on the host: what a kernel computes, what it must not do, how often it does what.

:class:`~benchmarks.ptx.machine.Launch` runs a kernel that :func:`~benchmarks.ptx.program.parse` has
read, on tensors in host memory. The tests run the GPU kernels on it; `count_sass` counts on it.
"""
