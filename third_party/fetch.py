"""Downloads the wheels that wheels.txt pins and unpacks them next to this file, one folder per component.

A component counts as present only if each of its wheels has a stamp, third_party/NAME/.stamps/WHEEL, with a hash that
wheels.txt still pins. Stamps are written into a scratch folder, which becomes the component's folder by one rename. So a
run that is killed at any moment leaves either the whole tree or none. The next run reuses the complete wheels.
"""

import argparse
import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Complete wheels that are not unpacked yet.
WHEELS = HERE / ".wheels"

# The files of each component's wheels: patterns of paths in the wheel, and their targets.
CUDA_TREE = (re.compile(r"nvidia/cu\d+/(.+)"), r"\1")
LICENCES = (re.compile(r"([^/]+)\.dist-info/(?:licenses/)?(LICENSE.*|License.*)"), r"licenses/\1/\2")
TAKEN = {
    "cuda": (CUDA_TREE, LICENCES),
    "sass": (CUDA_TREE, LICENCES),
    "cutlass": ((re.compile(r"cutlass_library/source/(include/.+)"), r"\1"), LICENCES),
    "libclang": ((re.compile(r".+/clang/native/(.+)"), r"lib/\1"), LICENCES),
}


class Failure(Exception):
    """What went wrong and how to fix it, in one sentence."""


class Wheel:
    """One pinned wheel: its name, version and accepted hashes."""

    def __init__(self, component, name, version, hashes):
        self.component = component
        self.name = name
        self.version = version
        self.hashes = hashes

    def __str__(self):
        return f"{self.name} {self.version}"

    def requirement(self):
        return " ".join([f"{self.name}=={self.version}"] + [f"--hash=sha256:{h}" for h in self.hashes])

    def present(self):
        """Returns whether the unpacked tree was made from this wheel."""
        try:
            stamp = (HERE / self.component / ".stamps" / self.name).read_text().strip()
        except OSError:
            return False
        return stamp in self.hashes

    def downloaded(self):
        """Returns the wheel in WHEELS and its hash. A file with another hash, such as a truncated one, is deleted."""
        for path in WHEELS.glob(f"{self.name.replace('-', '_')}-{self.version}-*.whl"):
            digest = sha256(path)
            if digest in self.hashes:
                return path, digest
            path.unlink()
        return None


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_pins():
    """Returns the wheels of wheels.txt by component."""
    components = {name: [] for name in TAKEN}
    component = None
    text = (HERE / "wheels.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        heading = re.match(r"#\s*\[(\w+)\]", line)
        if heading:
            component = heading.group(1)
        pin = re.match(r"([\w.-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*$", line)
        if pin:
            components[component].append(Wheel(component, pin.group(1), pin.group(2), re.findall(r"sha256:(\w+)", pin.group(3))))
        elif line.strip() and not line.startswith("#"):
            raise Failure(f"wheels.txt: not a pinned, hashed wheel: {line.strip()}")
    return components


def check_machine():
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise Failure(
            f"no wheels are pinned for {sys.platform} on {platform.machine()}: install a CUDA toolkit and CUTLASS"
            " yourself, and set CUDA_HOME and W4AX_CUTLASS_DIR"
        )
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise Failure(f"{sys.executable} has no pip: install it (Debian: apt-get install python3-pip)")


def download(wheels):
    """Downloads the wheels to WHEELS and checks their hashes."""
    missing = [wheel for wheel in wheels if not wheel.downloaded()]
    if not missing:
        return
    WHEELS.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("".join(wheel.requirement() + "\n" for wheel in missing))
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "--only-binary=:all:"]
        pip += ["--quiet", "--disable-pip-version-check", "--dest", str(WHEELS), "-r", requirements.name]
        done = subprocess.run(pip)
    lost = [str(wheel) for wheel in missing if not wheel.downloaded()]
    if done.returncode != 0 or lost:
        raise Failure(
            f"pip could not download {', '.join(lost)} (see its output above): check the network and `pip config list` and"
            " run this again, which continues; or set CUDA_HOME and W4AX_CUTLASS_DIR to installed tools"
        )


def unpack(component, wheels):
    """Replaces the component's folder by the contents of its wheels, and stamps it."""
    scratch = HERE / f".unpacking-{component}"
    shutil.rmtree(scratch, ignore_errors=True)
    stamps = scratch / ".stamps"
    stamps.mkdir(parents=True)
    for wheel in wheels:
        path, digest = wheel.downloaded()
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                target = place(component, entry.filename)
                if target is None or entry.is_dir():
                    continue
                target = scratch / target
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                # zipfile does not restore modes, and the compiler's files are executable for their owner only.
                target.chmod(0o755 if (entry.external_attr >> 16) & 0o100 else 0o644)
        (stamps / wheel.name).write_text(digest + "\n")
    tree, old = HERE / component, HERE / f".old-{component}"
    shutil.rmtree(old, ignore_errors=True)
    if tree.exists():
        tree.rename(old)
    scratch.rename(tree)
    shutil.rmtree(old, ignore_errors=True)


def place(component, name):
    """Returns the target of a file of a wheel, or None if it is not needed."""
    if ".." in name.split("/"):
        raise Failure(f"a wheel of {component} contains the path {name}, which is outside of its folder")
    for pattern, target in TAKEN[component]:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(target)
    return None


def fetch(component, wheels):
    if all(wheel.present() for wheel in wheels):
        for wheel in wheels:
            print(f"{component}: {wheel} present")
        return
    check_machine()
    # All wheels of a component share one tree, so they are unpacked together even if only one has changed.
    download(wheels)
    unpack(component, wheels)
    for wheel in wheels:
        print(f"{component}: {wheel} fetched and unpacked in third_party/{component}", flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog="third_party/fetch",
        description="Downloads the pinned, hashed wheels of third_party/wheels.txt and unpacks them in third_party/."
        " Prints 'present' for wheels that are unpacked already.",
    )
    parser.add_argument("components", nargs="*", metavar="COMPONENT", help=f"{', '.join(TAKEN)} or all (the default)")
    requested = parser.parse_args().components or ["all"]
    for name in requested:
        if name != "all" and name not in TAKEN:
            parser.error(f"unknown component {name}: expected {', '.join(TAKEN)} or all")
    try:
        with open(HERE / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for component, wheels in read_pins().items():
                if "all" in requested or component in requested:
                    fetch(component, wheels)
            # Everything requested is unpacked. What remains are wheels, and trees that a killed run had replaced.
            for leftover in [WHEELS, *HERE.glob(".old-*")]:
                shutil.rmtree(leftover, ignore_errors=True)
    except (Failure, OSError, zipfile.BadZipFile) as failure:
        sys.exit(f"third_party/fetch: {failure}")


if __name__ == "__main__":
    main()
