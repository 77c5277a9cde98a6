"""Tests of closed_loop.intervals against published and hand-computed values."""

import unittest

from closed_loop.intervals import Pairs, mcnemar, wilson


class Wilson(unittest.TestCase):
    def test_matches_newcombe_1998_table_1(self):
        # Newcombe, "Two-sided confidence intervals for the single proportion", Table I, method 3.
        for successes, total, expected in (
            (81, 263, (0.2553, 0.3662)),
            (15, 148, (0.0624, 0.1605)),
            (0, 20, (0.0, 0.1611)),
            (1, 29, (0.0061, 0.1718)),
        ):
            for bound, published in zip(wilson(successes, total), expected):
                self.assertAlmostEqual(bound, published, delta=6e-5)

    def test_is_symmetric_under_exchange_of_success_and_failure(self):
        low, high = wilson(3, 17)
        other_low, other_high = wilson(14, 17)
        self.assertAlmostEqual(low, 1 - other_high)
        self.assertAlmostEqual(high, 1 - other_low)

    def test_ends_are_exact(self):
        self.assertEqual(wilson(0, 9)[0], 0.0)
        self.assertEqual(wilson(9, 9)[1], 1.0)


class McNemar(unittest.TestCase):
    def test_matches_binomial_tails(self):
        # 2 * (C(10, 0) + C(10, 1) + C(10, 2)) / 2^10
        self.assertAlmostEqual(mcnemar(2, 8), 112 / 1024)
        self.assertAlmostEqual(mcnemar(8, 2), 112 / 1024)
        self.assertAlmostEqual(mcnemar(0, 6), 2 / 64)

    def test_is_one_without_evidence(self):
        self.assertEqual(mcnemar(0, 0), 1.0)
        self.assertEqual(mcnemar(5, 5), 1.0)


class PairedDifference(unittest.TestCase):
    def test_interval_matches_newcombe_1998_table_2(self):
        # Newcombe, "Improved confidence intervals ... based on paired data", Table II, method 10.
        pairs = Pairs(both=36, only_first=12, only_second=2, neither=0)
        self.assertAlmostEqual(pairs.difference(), 0.2)
        low, high = pairs.interval()
        self.assertAlmostEqual(low, 0.0569, delta=6e-5)
        self.assertAlmostEqual(high, 0.3404, delta=6e-5)

    def test_interval_is_antisymmetric(self):
        low, high = Pairs(20, 7, 3, 10).interval()
        other_low, other_high = Pairs(20, 3, 7, 10).interval()
        self.assertAlmostEqual(low, -other_high)
        self.assertAlmostEqual(high, -other_low)

    def test_interval_without_discordant_pairs_contains_zero(self):
        for pairs in (Pairs(10, 0, 0, 0), Pairs(0, 0, 0, 10), Pairs(5, 0, 0, 5)):
            low, high = pairs.interval()
            self.assertLess(low, 0.0)
            self.assertGreater(high, 0.0)


if __name__ == "__main__":
    unittest.main()
