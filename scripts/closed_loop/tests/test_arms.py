"""Tests of closed_loop.arms and closed_loop.tasks."""

import unittest
from collections import Counter
from unittest import mock

from closed_loop.arms import ARMS, HOLD, SourceRun, select
from closed_loop.tasks import STEP_LIMIT, parse_seeds, split_supported

SOURCE = SourceRun({1000: [4, 4, 2], 1001: [16, 16, 16, 4, 4], 1002: [2]})


class Schedules(unittest.TestCase):
    def schedule(self, name: str, seed: int = 1000) -> list:
        return ARMS[name].schedule(SOURCE, "Lift", seed)

    def test_all_cover_the_step_limit(self):
        for name in ARMS:
            self.assertEqual(len(self.schedule(name)), STEP_LIMIT, name)

    def test_fixed_width_is_requested_in_every_step(self):
        self.assertEqual(set(self.schedule("a4")), {"a4"})
        self.assertEqual(set(self.schedule("dyq")), {None})

    def test_held_action_follows_each_requested_one(self):
        self.assertEqual(self.schedule("hold-a4")[:4], ["a4", HOLD, "a4", HOLD])

    def test_shares_are_those_of_all_steps(self):
        shares = SOURCE.shares()
        self.assertEqual(shares, {2: 2 / 9, 4: 4 / 9, 16: 3 / 9})

    def test_drawn_widths_have_the_shares_of_the_source(self):
        counts = Counter()
        for seed in range(1000, 1040):
            counts.update(self.schedule("random", seed))
        total = 40 * STEP_LIMIT
        # Five standard deviations of a share: 5 * sqrt(.25 / 10000) = .025.
        for width, share in (("a2", 2 / 9), ("a4", 4 / 9), ("bf16", 3 / 9)):
            self.assertAlmostEqual(counts[width] / total, share, delta=0.025)

    def test_drawn_widths_depend_on_arm_and_seed_only(self):
        self.assertEqual(self.schedule("random"), self.schedule("random"))
        self.assertNotEqual(self.schedule("random"), self.schedule("random", 1001))
        self.assertNotEqual(self.schedule("random"), self.schedule("random-consistency"))

    def test_shifted_widths_are_those_of_the_next_seed_repeated(self):
        expected = ["bf16", "bf16", "bf16", "a4", "a4"]
        self.assertEqual(self.schedule("shifted")[:10], expected * 2)

    def test_last_seed_has_the_widths_of_the_first(self):
        self.assertEqual(self.schedule("shifted", 1002)[:3], ["a4", "a4", "a2"])


class Selection(unittest.TestCase):
    OFFERED = frozenset({"--policy", "--width", "--rule", "--costs"})

    def test_arms_without_their_option_are_left_out_with_the_reason(self):
        arms, left_out = select(["a4", "floors"], self.OFFERED)
        self.assertEqual([arm.name for arm in arms], ["a4"])
        self.assertEqual(left_out, {"floors": "this w4ax serve has no --floors"})

    def test_control_of_an_arm_that_is_left_out_is_left_out(self):
        arms, left_out = select(["consistency", "random-consistency"], frozenset({"--policy", "--width"}))
        self.assertEqual(arms, [])
        self.assertEqual(left_out["random-consistency"], "its source consistency is left out")

    def test_rejects_control_without_its_source(self):
        with self.assertRaisesRegex(ValueError, "arm random needs the run of arm dyq"):
            select(["random"], self.OFFERED)

    def test_rejects_unknown_arm(self):
        with self.assertRaisesRegex(ValueError, "unknown arm a3"):
            select(["a3"], self.OFFERED)


class Tasks(unittest.TestCase):
    def test_seeds_do_not_overlap_the_training(self):
        self.assertEqual(parse_seeds("3"), [1000, 1001, 1002])
        self.assertEqual(parse_seeds("1:3"), [1001, 1002])

    def test_rejects_invalid_seeds(self):
        for text in ("", "a", "3:3", "-2:3", "5:"):
            with self.assertRaisesRegex(ValueError, "invalid seeds"):
                parse_seeds(text)

    def test_rejects_unknown_task(self):
        with self.assertRaisesRegex(ValueError, "unknown task Lit"):
            split_supported(["Lit"])

    def test_tasks_of_libero_are_left_out_unless_it_is_installed(self):
        with mock.patch("importlib.util.find_spec", return_value=None):
            supported, left_out = split_supported(["Lift", "libero_goal:6"])
        self.assertEqual(supported, ["Lift"])
        self.assertIn("LIBERO is not installed", left_out["libero_goal:6"])
        with mock.patch("importlib.util.find_spec", return_value=object()):
            self.assertEqual(split_supported(["Lift", "libero_goal:6"]), (["Lift", "libero_goal:6"], {}))


if __name__ == "__main__":
    unittest.main()
