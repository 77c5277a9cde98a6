"""Client of `w4ax serve`: JSON lines over the pipes of a child process."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "target" / "closed-loop"
# All that decides the actions besides the program.
SETUP_FILES = (
    "tests/data/robot/policy.safetensors",
    "tests/data/robot/calibration.json",
    "tests/data/robot-deep/deep_policy.safetensors",
    "tests/data/robot-deep/calibration.json",
    "tests/data/robot-deep/skip.safetensors",
    "tests/data/robot-deep/skip_exit.safetensors",
)
BUILD = "cargo build --release -p w4ax-cli"
# Requests sent before their replies are read. With about 500 bytes each they fit into a pipe of 64 KiB, so sending
# never waits for a server that waits for its replies to be read.
BATCH = 64


class ServerError(Exception):
    """The server replied with an error, or ended."""


def find_binary(given: str | None) -> Path:
    """Returns the path of `w4ax`: the given one, otherwise the release build of this repository.

    Raises `FileNotFoundError`.
    """
    if given is not None:
        candidates = [Path(given)]
    else:
        target = os.environ.get("CARGO_TARGET_DIR")
        folders = ([Path(target)] if target else []) + [ROOT / "target"]
        candidates = [folder / "release" / "w4ax" for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    listed = ", ".join(map(str, candidates))
    raise FileNotFoundError(f"the program w4ax is missing at {listed}: build it by `{BUILD}`")


def private_copy(binary: Path) -> Path:
    """Returns a copy of the program in target/closed-loop, which a build during a long run does not replace."""
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
    copy = RESULTS / "programs" / f"w4ax-{digest}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_suffix(f".{os.getpid()}")
        shutil.copy(binary, unfinished)
        unfinished.rename(copy)
    return copy


def setup_digest(binary: Path) -> str:
    """Returns a hash over the program and the files that it reads."""
    digest = hashlib.sha256()
    for path in (binary, *(ROOT / file for file in SETUP_FILES)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def serve_options(binary: Path) -> frozenset[str]:
    """Returns the long options of `w4ax serve`."""
    text = subprocess.run([binary, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    words = text.replace(",", " ").split()
    return frozenset(word for word in words if word.startswith("--"))


class Server:
    """A running `w4ax serve`. Use it in a `with` statement, or call `close`."""

    def __init__(self, binary: Path, arguments: Sequence[str]):
        """Starts `binary serve` with `arguments`. Relative paths are relative to the repository."""
        self.arguments = tuple(arguments)
        self._process = subprocess.Popen(
            [binary, "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server by the end of its input."""
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, request: dict) -> dict:
        """Returns the reply to a request.

        Raises `ServerError`.
        """
        self._send([request])
        return self._receive(request)

    def ask_all(self, requests: Sequence[dict]) -> list[dict]:
        """Returns the replies to requests that do not depend on each other's replies.

        Raises `ServerError`.
        """
        replies = []
        for begin in range(0, len(requests), BATCH):
            batch = requests[begin : begin + BATCH]
            self._send(batch)
            replies += [self._receive(request) for request in batch]
        return replies

    def _send(self, requests: Sequence[dict]) -> None:
        try:
            self._process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self, request: dict) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply = json.loads(line)
        if "error" in reply:
            fields = ", ".join(request)
            raise ServerError(f"the server rejected a request with {fields}: {reply['error']}")
        return reply

    def _ended(self) -> ServerError:
        status = self._process.wait()
        return ServerError(f"the server {' '.join(self.arguments)} ended with status {status}")
