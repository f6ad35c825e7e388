"""Hooks man pages, built from the command's own parser, into the build; everything else is in setup.cfg."""

import sys
from pathlib import Path

# PEP 517 builds do not put the project's folder on the path, and the parser is imported from there.
sys.path.insert(0, str(Path(__file__).parent))

from build_manpages import build_manpages, get_build_py_cmd, get_install_cmd
from setuptools import setup

setup(
    cmdclass={
        "build_manpages": build_manpages,
        "build_py": get_build_py_cmd(),
        "install": get_install_cmd(),
    }
)
