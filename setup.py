"""Puts the C++ and CUDA sources into the package; with FASTCORE_AOT=1 also the library built from them."""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
AHEAD_OF_TIME = os.environ.get("FASTCORE_AOT") == "1"
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".txt"}


class BuildPackage(build_py):
    """The Python files, then csrc/ beside them, then the library."""

    def run(self):
        if self.editable_mode:
            super().run()
            package = ROOT / "fastcore"
        else:
            package = Path(self.build_lib, "fastcore")
            shutil.rmtree(package, ignore_errors=True)  # whatever an earlier build left there would be packed
            super().run()
            for source in (ROOT / "csrc").rglob("*"):
                if source.suffix in SOURCES:
                    target = package / source.relative_to(ROOT)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
        if AHEAD_OF_TIME:
            sys.path.insert(0, str(ROOT))
            from fastcore.ops import native

            native.build_ahead(package / "_native")


class Package(Distribution):
    """A wheel for one platform if it holds a library, for all of them otherwise."""

    def has_ext_modules(self):
        return AHEAD_OF_TIME


setup(cmdclass={"build_py": BuildPackage}, distclass=Package)
