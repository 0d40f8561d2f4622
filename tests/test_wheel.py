import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

pytestmark = pytest.mark.xdist_group("wheel")  # built and installed once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, timeout=300, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Another environment that holds our wheel, and sees the packages of this one but not the checkout."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], timeout=300, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", *options]
    subprocess.run([*pip, str(wheel)], timeout=300, check=True)
    return folder


def run(program: Path, *arguments: str, folder: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "UNMASK"))}
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=clean, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_file_that_the_package_reads(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("unmask/")}
    source = REPOSITORY / "src"
    code = {path.relative_to(source) for path in (source / "unmask").rglob("*") if path.is_file()}
    configs = {
        Path("unmask") / path.relative_to(REPOSITORY) for path in (REPOSITORY / "configs").rglob("*") if path.is_file()
    }
    wanted = {str(path) for path in code | configs if "__pycache__" not in path.parts and "local" not in path.parts}
    assert held == wanted  # nothing is missing, and configs/local, which is personal, stays at home


def test_every_command_of_the_project_is_in_the_wheel(wheel: Path) -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    held = zipfile.ZipFile(wheel).namelist()
    for name, target in scripts.items():
        module = EntryPoint(name, target, "console_scripts").module
        assert f"{module.replace('.', '/')}.py" in held


def test_installed_commands_run_from_another_folder(environment: Path, tmp_path: Path) -> None:
    scripts = environment / "bin"
    where = run(scripts / "python", "-c", "import unmask; print(unmask.__file__)", folder=tmp_path)
    assert Path(where).is_relative_to(environment)
    for command, sign in (("train", "optimizer:"), ("predict", "checkpoint:"), ("evaluate", "checkpoint:")):
        assert sign in run(scripts / "unmask", command, "--help", folder=tmp_path)
    overrides = ["source=forge", "source.root=photographs", "output=faces"]
    printed = run(scripts / "unmask", "prepare", "--cfg", "job", *overrides, folder=tmp_path)
    assert "_target_: unmask.sources.forge.ForgedMedia" in printed
    assert "root: photographs" in printed
