"""Tests of closed_loop.run and closed_loop.server without a simulator."""

import datetime
import os
import stat
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from closed_loop import run, server

ECHO = """#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"error": "no such width"} if "width" in request else request | {"pad": "x" * 2000}), flush=True)
sys.exit(3)
"""


class Deadline(unittest.TestCase):
    NOW = datetime.datetime(2026, 11, 30, 14, 0)

    def test_is_later_on_the_same_day(self):
        self.assertEqual(run.deadline("15:30", self.NOW), self.NOW.timestamp() + 90 * 60)

    def test_is_on_the_next_day_if_the_time_is_past(self):
        self.assertEqual(run.deadline("13:30", self.NOW), self.NOW.timestamp() + 23.5 * 3600)

    def test_is_infinite_by_default(self):
        self.assertEqual(run.deadline(None, self.NOW), float("inf"))

    def test_rejects_other_text(self):
        with self.assertRaisesRegex(run.Usage, "invalid time 25:00: expected HH:MM"):
            run.deadline("25:00", self.NOW)


class Client(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.echo = self.folder / "echo"
        self.echo.write_text(ECHO)
        self.echo.chmod(self.echo.stat().st_mode | stat.S_IXUSR)

    def test_batch_larger_than_the_pipes_returns_all_replies_in_order(self):
        requests = [{"number": number, "obs": [0.5] * 100} for number in range(500)]
        with server.Server(self.echo, []) as echo:
            replies = echo.ask_all(requests)
        self.assertEqual([reply["number"] for reply in replies], list(range(500)))

    def test_error_reply_is_raised(self):
        with server.Server(self.echo, []) as echo, self.assertRaisesRegex(server.ServerError, "no such width"):
            echo.ask({"obs": [], "width": "a3"})

    def test_end_of_the_server_is_raised(self):
        with server.Server(Path("/bin/false"), []) as ended, self.assertRaisesRegex(server.ServerError, "status 1"):
            ended.ask({"obs": []})

    def test_missing_program_names_the_build_command(self):
        with mock.patch.dict(os.environ, {"CARGO_TARGET_DIR": str(self.folder)}):
            with mock.patch.object(server, "ROOT", self.folder):
                with self.assertRaisesRegex(FileNotFoundError, "cargo build --release -p w4ax-cli"):
                    server.find_binary(None)

    def test_release_build_is_found_in_cargo_target_dir(self):
        binary = self.folder / "release" / "w4ax"
        binary.parent.mkdir()
        binary.touch()
        with mock.patch.dict(os.environ, {"CARGO_TARGET_DIR": str(self.folder)}):
            self.assertEqual(server.find_binary(None), binary.resolve())


if __name__ == "__main__":
    unittest.main()
