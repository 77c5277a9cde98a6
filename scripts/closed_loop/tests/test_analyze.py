"""Tests of closed_loop.analyze and closed_loop.picture."""

import tempfile
import unittest
import xml.etree.ElementTree
from argparse import Namespace
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from closed_loop import analyze
from closed_loop.picture import draw
from closed_loop.store import Store
from closed_loop.tests.examples import episode


class Pairing(unittest.TestCase):
    def report(self, episodes: list[dict]) -> dict:
        return analyze.analyze(episodes, {"bf16": [100, 300, 200]})

    def test_counts_pairs_of_the_same_seed_only(self):
        report = self.report(
            [
                episode("bf16", 1000, True),
                episode("a4", 1000, False),
                episode("bf16", 1001, True),
                episode("a4", 1001, True),
                episode("bf16", 1002, False),
                episode("a4", 1003, True),
            ]
        )
        [pair] = report["pairs"]
        self.assertEqual((pair["first"], pair["second"]), ("bf16", "a4"))
        self.assertEqual((pair["pairs"], pair["only_first"], pair["only_second"]), (2, 1, 0))
        self.assertEqual(pair["difference"], 0.5)
        self.assertEqual(pair["tasks"], {"Lift": [1, 0, 2]})

    def test_does_not_pair_different_tasks(self):
        report = self.report([episode("bf16", 1000), episode("a4", 1000, task="Stack")])
        self.assertEqual(report["pairs"], [])

    def test_counts_each_task_of_its_own(self):
        episodes = []
        for task, wins in (("Lift", (True, False)), ("Stack", (False, True))):
            for arm, success in zip(("bf16", "a4"), wins):
                episodes.append(episode(arm, 1000, success, task=task))
        [pair] = self.report(episodes)["pairs"]
        self.assertEqual(pair["tasks"], {"Lift": [1, 0, 1], "Stack": [0, 1, 1]})
        self.assertEqual((pair["pairs"], pair["difference"]), (2, 0.0))

    def test_refuses_different_start_states(self):
        episodes = [episode("bf16", 1000), episode("a4", 1000, start="other")]
        with self.assertRaisesRegex(ValueError, "task Lift, seed 1000: start states differ between bf16 and a4"):
            self.report(episodes)


class Summary(unittest.TestCase):
    def test_means_are_over_steps(self):
        episodes = [
            episode("a4", 1000, steps=10, error=0.1, widths=[[4, 10]], runs=10),
            episode("a4", 1001, False, steps=30, error=0.3, widths=[[4, 10], [8, 20]], runs=45),
        ]
        [arm] = analyze.analyze(episodes, {})["arms"]
        self.assertAlmostEqual(arm["error"], 0.25)
        self.assertEqual(arm["widths"], {"a4": 0.5, "a8": 0.5})
        self.assertEqual(arm["runs"], 55 / 40)
        self.assertEqual((arm["success"], arm["episodes"], arm["steps"]), (1, 2, 20))
        self.assertEqual(arm["failed_at"], {"grasp": 1})
        self.assertIsNone(arm["micros_median"])

    def test_reports_each_rule_once(self):
        rules = [{"rule": "consistency", "rule_widths": widths} for widths in ([2, 4], [2, 4], [8, 16])]
        episodes = [episode("consistency", 1000 + index, rule=rule) for index, rule in enumerate(rules)]
        [arm] = analyze.analyze(episodes, {})["arms"]
        self.assertEqual(arm["rules"], [rules[0], rules[2]])

    def test_reports_results_of_several_programs(self):
        report = analyze.analyze([episode("a4", 1000), episode("a2", 1000, setup="other")], {})
        self.assertIn("mix 2 versions of program, policies and calibrations: other, program", analyze.markdown(report))


class Command(unittest.TestCase):
    def test_writes_tables_json_and_picture(self):
        with tempfile.TemporaryDirectory() as folder:
            with Store(Path(folder) / "main", ("arm", "runs", "micros"), ("arm", "seed")) as store:
                store.add(episode("bf16", 1000), [{"arm": "bf16", "runs": 1, "micros": us} for us in (90, 110, 400)])
                held = {"arm": "a4", "runs": 0, "micros": 0}
                store.add(episode("a4", 1000), [{"arm": "a4", "runs": 1, "micros": 50}, held])
            output = StringIO()
            with redirect_stdout(output):
                analyze.run(Namespace(name="main", results=Path(folder), out=None))
            self.assertIn("| bf16: W4A16 | 1/1 = 100.0 % |", output.getvalue())
            self.assertIn("| 110 | 100 |", output.getvalue())
            self.assertIn("| 50 | 100 |", output.getvalue())
            for suffix in ("json", "md", "svg"):
                self.assertTrue((Path(folder) / f"main.{suffix}").stat().st_size > 0)

    def test_rejects_missing_results(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(ValueError, "no episodes"):
            analyze.run(Namespace(name="main", results=Path(folder), out=None))


class Picture(unittest.TestCase):
    def test_has_two_dots_per_arm_inside_the_picture(self):
        report = analyze.analyze([episode("bf16", 1000, error=0.0), episode("a4", 1000, False, error=2.0)], {})
        root = xml.etree.ElementTree.fromstring(draw(report))
        width = float(root.get("viewBox").split()[2])
        dots = [float(dot.get("cx")) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
        self.assertEqual(len(dots), 4)
        self.assertTrue(all(0 < x < width for x in dots))


if __name__ == "__main__":
    unittest.main()
