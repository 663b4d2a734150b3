"""Build of the compiled modules; everything else is in pyproject.toml.

They are optional: without a C compiler the wheel still builds, and linguad runs on their plain-Python
twins, slower, and says so at start.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

extensions = cythonize(
    [
        Extension(f"linguad.{name}", [f"linguad/{name}.pyx"], extra_compile_args=["-O3"])
        for name in ("_hash", "_bytes")
    ],
    compiler_directives={"language_level": "3"},
)
for extension in extensions:
    # Only here: cythonize makes new objects and forgets this.
    extension.optional = True

setup(ext_modules=extensions)
