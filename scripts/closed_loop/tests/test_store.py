"""Tests of closed_loop.store: resumption after an interruption at any byte."""

import tempfile
import unittest
from pathlib import Path

from closed_loop.store import Store, expand, read_steps, run_lengths

COLUMNS = ("seed", "t")


class StoreTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name) / "name"

    def open(self, columns=COLUMNS) -> Store:
        return Store(self.base, columns, ("seed",))

    def write(self, seeds):
        with self.open() as store:
            for seed in seeds:
                store.add({"seed": seed}, [{"seed": seed, "t": t} for t in range(3)])

    def seeds_of_steps(self) -> list[int]:
        with self.open() as store:
            end = store.episodes[-1]["steps_end"] if store.episodes else 0
            return [int(step["seed"]) for step in read_steps(store.steps_path, end)]

    def test_complete_episodes_are_found_again(self):
        self.write([1, 2])
        with self.open() as store:
            self.assertTrue(store.has((1,)))
            self.assertFalse(store.has((3,)))
            self.assertEqual(len(store.episodes), 2)

    def test_goes_on_after_any_cut_of_the_lines(self):
        self.write([1, 2])
        whole = self.base.with_name("name.jsonl").read_bytes()
        steps = self.base.with_name("name.csv").read_bytes()
        first = whole.index(b"\n") + 1
        for length in range(len(whole)):
            self.base.with_name("name.jsonl").write_bytes(whole[:length])
            self.base.with_name("name.csv").write_bytes(steps)
            with self.open() as store:
                self.assertEqual([store.has((1,)), store.has((2,))], [length >= first, False])
                for seed in (1, 2):
                    if not store.has((seed,)):
                        store.add({"seed": seed}, [{"seed": seed, "t": t} for t in range(3)])
            self.assertEqual(self.base.with_name("name.jsonl").read_bytes(), whole)
            self.assertEqual(self.base.with_name("name.csv").read_bytes(), steps)

    def test_rows_of_an_incomplete_episode_are_cut_off(self):
        self.write([1])
        with self.base.with_name("name.csv").open("ab") as file:
            file.write(b"2,0\n2,")
        self.assertEqual(self.seeds_of_steps(), [1, 1, 1])
        self.write([2])
        self.assertEqual(self.seeds_of_steps(), [1, 1, 1, 2, 2, 2])

    def test_rejects_missing_steps(self):
        self.write([1])
        self.base.with_name("name.csv").write_bytes(b"seed,t\n")
        with self.assertRaisesRegex(ValueError, "has 7 bytes: expected at least"):
            self.open()

    def test_rejects_other_columns(self):
        self.write([1])
        with self.assertRaisesRegex(ValueError, "has other columns: expected seed,t,more"):
            self.open(("seed", "t", "more"))

    def test_rejects_damaged_line_before_the_last(self):
        self.write([1, 2])
        lines = self.base.with_name("name.jsonl")
        lines.write_bytes(b"{" + lines.read_bytes())
        with self.assertRaisesRegex(ValueError, "line 1"):
            self.open()


class RunLengths(unittest.TestCase):
    def test_expand_inverts_run_lengths(self):
        values = [4, 4, 2, 16, 16, 16, 4]
        self.assertEqual(run_lengths(values), [[4, 2], [2, 1], [16, 3], [4, 1]])
        self.assertEqual(expand(run_lengths(values)), values)


if __name__ == "__main__":
    unittest.main()
