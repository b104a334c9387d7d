"""Builds the kernels against torch's stable ABI: one binary for Python >= 3.10, torch >= 2.10."""

from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

SOURCES = sorted(str(path) for path in Path("csrc").rglob("*.cpp"))
FLAGS = [
    "-O3",
    "-std=c++17",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
]

setup(
    ext_modules=[
        CppExtension(
            "mmquad_kernels._C",
            SOURCES,
            extra_compile_args={"cxx": FLAGS},
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
