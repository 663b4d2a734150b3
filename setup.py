"""Build of the one compiled module; everything else is in pyproject.toml.

The extension is optional: without a C compiler the wheel still builds, and linguad runs on the
plain-Python twin, slower, and says so at start.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

extensions = cythonize(
    [Extension("linguad._hash", ["linguad/_hash.pyx"], extra_compile_args=["-O3"])],
    compiler_directives={"language_level": "3"},
)
for extension in extensions:
    # Only here: cythonize makes new objects and forgets this.
    extension.optional = True

setup(ext_modules=extensions)
