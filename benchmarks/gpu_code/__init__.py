"""What GPU kernels execute, counted without a GPU: the machine code, and how often it runs.

nvcc compiles to PTX and on to machine code (:mod:`.compilation`). A disassembler lists
that with the line of PTX that every instruction comes from (:mod:`.disassembly`). The interpreter
counts how often warps come by those lines (:mod:`benchmarks.ptx`). :mod:`.execution` puts the two
together, and :mod:`.figures` compares them with budgets and with the record.
"""
