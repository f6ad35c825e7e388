"""A wheel built from the checkout installs the command and its man pages into a clean environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("bacalhau", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def run_python(environment: Path, code: str, *, folder: Path) -> str:
    return run(environment / "bin" / "python", "-c", code, folder=folder).strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, for setuptools leaves folders behind; without isolation, so without a network."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    build = (
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        "dist",
        ".",
    )
    run(sys.executable, *build, folder=source)
    wheels = list((source / "dist").glob("bacalhau-*.whl"))
    assert len(wheels) == 1
    return wheels[0]


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, and the packages that it needs from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *install, folder=folder)
    packages = run_python(folder, "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder)
    needed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(packages) / "needed.pth").write_text("\n".join(sorted(needed)) + "\n")
    return folder


def test_the_command_of_the_wheel_runs_from_the_installed_package(environment: Path, tmp_path: Path) -> None:
    printed = run(environment / "bin" / "bacalhau", "version", "--client", folder=tmp_path)
    code = "from importlib.metadata import version; print(version('bacalhau'))"
    assert run_python(environment, code, folder=tmp_path) in printed
    origin = run_python(environment, "import bacalhau; print(bacalhau.__file__)", folder=tmp_path)
    assert origin.startswith(str(environment))


def test_the_man_pages_are_installed_and_describe_the_verbs(environment: Path) -> None:
    pages = sorted((environment / "share" / "man" / "man1").glob("bacalhau*.1"))
    assert pages
    text = "".join(page.read_text() for page in pages).replace("\\-", "-")
    for words in ("bacalhau serve", "bacalhau docker", "bacalhau ipfs", "--id-only"):
        assert words in text.replace("\\fB", "").replace("\\fI", "").replace("\\fR", ""), words


def test_the_wheel_is_typed_and_holds_the_generated_protocol_but_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "bacalhau/py.typed" in names
    assert "bacalhau/v1/job_service_pb2_grpc.py" in names
    assert "bacalhau/v1/job_service_pb2.pyi" in names
    assert not [name for name in names if name.startswith(("tests/", "build/"))]
