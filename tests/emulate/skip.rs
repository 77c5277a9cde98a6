//! The kernels that decide on the device which layers a step skips, against the rules of
//! [`w4ax::skip`] on the host.

use crate::abi::{BAD_FLAGS, BAD_SHAPE, MISALIGNED, NULL_POINTER, PDL};
use crate::build::Variant;
use crate::gemm_case::{expect_ok, for_runners};
use crate::runner::{Reply, Request, Runner};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::Rng;
use test_support::rng;
use w4ax::skip::Layers;

/// `w4axk_skip_reason`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    Forced = 1,
    Stale = 2,
    Kept = 3,
    NotANumber = 4,
    Skipped = 5,
    Passed = 6,
}

/// Returns the probability of one controller, summed in the device's order.
fn probability(hidden: &[bf16], out: &[f32], bias: f32) -> f32 {
    let mut lanes = [0f32; 32];
    for (j, (h, out)) in hidden.iter().zip(out).enumerate() {
        let h = h.to_f32();
        lanes[j % 32] += out * (h / (1.0 + (-h).exp()));
    }
    for distance in [16, 8, 4, 2, 1] {
        let before = lanes;
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = before[lane] + before[lane ^ distance];
        }
    }
    1.0 / (1.0 + (-(lanes[0] + bias)).exp())
}

/// A step of a stack of layers.
#[derive(Clone, Debug)]
struct SkipStep {
    layers: Layers,
    /// The word that the host stored for each gap.
    words: Vec<u64>,
    /// Number of the step.
    sequence: u32,
    /// Hidden activations of the controllers, `[layers, hidden_len]`.
    hidden: Vec<bf16>,
    /// Output weights of the controllers, `[hidden_len]`.
    out: Vec<f32>,
    /// `[layers]`
    bias: Vec<f32>,
    threshold: f32,
    flags: u32,
}

/// Returns the word that the host stores for an allow point.
fn word(sequence: u32, layer: usize) -> u64 {
    u64::from(sequence) << 32 | (layer as u64 + 1)
}

/// A dynamic layer, why it ran or did not, and the probability if its controller was evaluated.
type Decision = (usize, Reason, Option<f32>);

impl SkipStep {
    /// Returns a step with random controllers. Each allow point is at its gap's start.
    fn new(layers: Layers, hidden_len: usize, seed: u64) -> Self {
        let rng = &mut rng(seed);
        let n = layers.len();
        let mut number = || rng.random_range(-2f32..2.0);
        Self {
            words: layers.gaps().iter().map(|gap| word(9, gap.start)).collect(),
            sequence: 9,
            hidden: (0..n * hidden_len)
                .map(|_| bf16::from_f32(number()))
                .collect(),
            out: (0..hidden_len).map(|_| number()).collect(),
            bias: (0..n).map(|_| number()).collect(),
            threshold: 0.5,
            flags: PDL,
            layers,
        }
    }

    fn hidden_len(&self) -> usize {
        self.out.len()
    }

    fn p(&self, layer: usize) -> f32 {
        let len = self.hidden_len();
        probability(
            &self.hidden[layer * len..][..len],
            &self.out,
            self.bias[layer],
        )
    }

    /// Returns the host's decisions: the rules of `Skipper`, for words of this step only.
    fn expected(&self) -> Vec<Decision> {
        let mut decided = Vec::new();
        for (gap, &stored) in self.layers.gaps().iter().zip(&self.words) {
            let own = (gap.start..=gap.end).find(|&at| stored == word(self.sequence, at));
            let mut skipped = false;
            for layer in gap.start..gap.end {
                let evaluated = !skipped && own.is_some_and(|allow| layer >= allow);
                let p = evaluated.then(|| self.p(layer));
                let reason = match (skipped, own, p) {
                    (true, ..) => Reason::Passed,
                    (_, None, _) => Reason::Stale,
                    (_, _, None) => Reason::Forced,
                    (_, _, Some(p)) if p > self.threshold => Reason::Skipped,
                    (_, _, Some(p)) if p.is_nan() => Reason::NotANumber,
                    _ => Reason::Kept,
                };
                skipped |= reason == Reason::Skipped;
                decided.push((layer, reason, p));
            }
        }
        decided
    }

    fn request(&self) -> Request {
        let gaps = self.layers.gaps();
        let of = |at: fn(&w4ax::skip::Gap) -> usize| -> Vec<u32> {
            gaps.iter().map(|gap| at(gap) as u32).collect()
        };
        Request::new("skip")
            .set("seed", i64::from(self.sequence))
            .output("state", &[self.sequence, 0xDEAD_BEEF], 8)
            // The leftovers of an earlier step.
            .output("gaps", &vec![0xA5A5_A5A5u32; 4 * gaps.len()], 16)
            .input("allow", &self.words, 8)
            .input("first", &of(|gap| gap.start), 4)
            .input("end", &of(|gap| gap.end), 4)
            .input("hidden", &self.hidden, 2)
            .input("out", &self.out, 4)
            .input("bias", &self.bias, 4)
            .input("threshold", &[self.threshold], 4)
            .output("report", &vec![0u64; self.layers.len()], 8)
            .arg("gap_count", gaps.len())
            .arg("hidden_len", self.hidden_len())
            .arg("begin_flags", self.flags)
            .arg("flags", self.flags)
    }

    /// Runs the step and compares everything that it writes with the host's decisions.
    fn check(&self, runner: &mut Runner) -> Result<Vec<Decision>, String> {
        let reply: Reply = expect_ok(runner.run(&self.request())?).map_err(|e| format!("{e:?}"))?;
        let expected = self.expected();
        let error = |what: String| Err(format!("{self:?}: {what}"));
        if reply.output::<u32>("state") != [self.sequence.wrapping_add(1), self.sequence] {
            return error("the number of the next step is wrong".into());
        }
        if reply.values["flag_loads"] != self.words.len() as u64 {
            return error("the words were not each read once".into());
        }
        let reports = reply.output::<u64>("report");
        for &(layer, reason, p) in &expected {
            let report = reports[layer];
            let reported = (
                report & 0xFF,
                report >> 8 & 0xFF_FFFF,
                (report >> 32) as u32,
            );
            let sequence = u64::from(self.sequence & 0xFF_FFFF);
            let bits = p.map_or(0, f32::to_bits);
            let same_p = reported.2 == bits
                || p.is_some_and(f32::is_nan) && f32::from_bits(reported.2).is_nan();
            if (reported.0, reported.1) != (reason as u64, sequence) || !same_p {
                return error(format!(
                    "layer {layer}: reported {reported:x?}, expected {reason:?} {p:?}"
                ));
            }
            let runs = !matches!(reason, Reason::Skipped | Reason::Passed);
            let nodes = [("layer", runs), ("adapter", reason == Reason::Skipped)];
            for (node, is) in nodes {
                if reply.values[&format!("{node}{layer}")] != u64::from(is) {
                    return error(format!("{node} {layer} is not {is}"));
                }
            }
            // The IF node of the controller is set exactly if the controller was evaluated.
            if reply.values[&format!("controller{layer}")] != u64::from(p.is_some()) {
                return error(format!(
                    "the node of controller {layer} is wrong: p is {p:?}"
                ));
            }
        }
        for layer in self.layers.static_layers() {
            if reports[layer] != 0 {
                return error(format!("static layer {layer} has a report"));
            }
        }
        Ok(expected)
    }
}

fn layers() -> Layers {
    // Gaps 0..3, 4..9 and 10..12.
    Layers::new(13, &[3, 9, 12]).unwrap()
}

fn for_all(test: impl Fn(&mut Runner) + Sync) {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| test(runner));
    }
}

/// Both launches are dependent: if one does not wait, TSan reports a race for the gaps.
#[test]
fn controller_decides_like_host() {
    for_all(|runner| {
        let mut seen = Vec::new();
        for (seed, hidden_len) in [(1, 1), (2, 31), (3, 32), (4, 33), (5, 64), (6, 257)] {
            for threshold in [0.0, 0.3, 0.5, 0.9, 1.0] {
                let step = SkipStep {
                    threshold,
                    ..SkipStep::new(layers(), hidden_len, seed)
                };
                let decided = step.check(runner).unwrap();
                seen.extend(decided.into_iter().map(|(_, reason, _)| reason));
            }
        }
        for reason in [Reason::Kept, Reason::Skipped, Reason::Passed] {
            assert!(seen.contains(&reason), "{reason:?} did not occur");
        }
    });
}

/// Every controller would skip. Before the allow point none is evaluated; an allow point at the
/// gap's end permits no skip.
#[test]
fn layers_before_allow_point_run() {
    for_all(|runner| {
        for allow in 4..=9 {
            let mut step = SkipStep::new(layers(), 40, 1);
            step.bias.fill(100.0);
            step.words[1] = word(step.sequence, allow);
            let decided = step.check(runner).unwrap();
            let of = |layer| decided.iter().find(|d| d.0 == layer).unwrap().1;
            for layer in 4..9 {
                let expected = match layer.cmp(&allow) {
                    std::cmp::Ordering::Less => Reason::Forced,
                    std::cmp::Ordering::Equal => Reason::Skipped,
                    std::cmp::Ordering::Greater => Reason::Passed,
                };
                assert_eq!(of(layer), expected, "layer {layer}, allowed from {allow}");
            }
            // The other gaps have their own allow points.
            assert_eq!((of(0), of(10)), (Reason::Skipped, Reason::Skipped));
        }
    });
}

/// No layer of a gap is skipped if its word is of another step, unwritten, or names a layer outside
/// of the gap.
#[test]
fn stale_word_skips_no_layer() {
    for_all(|runner| {
        for sequence in [0, 1, 77, u32::MAX] {
            let before = sequence.wrapping_sub(1);
            for stored in [
                0,
                word(before, 4),
                word(sequence.wrapping_add(1), 4),
                word(sequence, 3),
                word(sequence, 10),
                u64::from(sequence) << 32,
                u64::from(sequence) << 32 | 0xFFFF_FFFF,
            ] {
                let mut step = SkipStep::new(layers(), 8, 1);
                step.bias.fill(100.0);
                step.sequence = sequence;
                step.words = layers()
                    .gaps()
                    .iter()
                    .map(|gap| word(sequence, gap.start))
                    .collect();
                step.words[1] = stored;
                let decided = step.check(runner).unwrap();
                for (layer, reason, _) in decided {
                    let stale = (4..9).contains(&layer);
                    assert_eq!(reason == Reason::Stale, stale, "{stored:x} {layer}");
                }
            }
        }
    });
}

/// A layer is skipped above the threshold only. Sums of zero give a probability of one half.
#[test]
fn probability_at_threshold_keeps_layer() {
    for_all(|runner| {
        let mut step = SkipStep::new(layers(), 40, 1);
        step.out.fill(0.0);
        step.bias.fill(0.0);
        for (_, reason, p) in step.check(runner).unwrap() {
            assert_eq!((reason, p), (Reason::Kept, Some(0.5)));
        }
    });
}

#[test]
fn nan_skips_no_layer() {
    for_all(|runner| {
        for poison in [f32::NAN, f32::INFINITY] {
            let mut step = SkipStep::new(layers(), 40, 1);
            step.bias.fill(100.0);
            // Infinity times 0 is a NaN as well.
            step.out[0] = 0.0;
            for layer in 4..9 {
                step.hidden[layer * 40] = bf16::from_f32(poison);
            }
            let decided = step.check(runner).unwrap();
            for (layer, reason, _) in decided {
                let nan = (4..9).contains(&layer);
                assert_eq!(reason == Reason::NotANumber, nan, "{layer} {reason:?}");
            }
        }
    });
}

#[test]
fn generated_steps_match_host() {
    let strategy = (
        proptest::collection::vec(any::<bool>(), 1..24),
        1usize..70,
        any::<u32>(),
        any::<u16>(),
        0.0f32..1.0,
        0u32..2,
    )
        .prop_filter(
            "at least one gap, and no more than the runner has handles",
            |(dynamic, ..)| {
                let layers = Layers::new(dynamic.len(), &statics(dynamic)).unwrap();
                (1..=4).contains(&layers.gaps().len())
            },
        )
        .prop_map(|(dynamic, hidden_len, sequence, seed, threshold, flags)| {
            let layers = Layers::new(dynamic.len(), &statics(&dynamic)).unwrap();
            let rng = &mut rng(u64::from(seed));
            let words = (layers.gaps().iter())
                .map(|gap| {
                    let late = u32::from(rng.random_range(0..5) == 0);
                    word(
                        sequence.wrapping_sub(late),
                        rng.random_range(gap.start..=gap.end),
                    )
                })
                .collect();
            SkipStep {
                words,
                sequence,
                threshold,
                flags,
                ..SkipStep::new(layers, hidden_len, u64::from(seed))
            }
        });
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            let runner = std::cell::RefCell::new(runner);
            let config = Config {
                cases: 100,
                failure_persistence: None,
                ..Config::default()
            };
            TestRunner::new(config)
                .run(&strategy, |step| {
                    let checked = step.check(&mut runner.borrow_mut());
                    checked.map(|_| ()).map_err(TestCaseError::fail)
                })
                .unwrap_or_else(|e| panic!("{}: {e}", variant.name()));
        });
    }
}

fn statics(dynamic: &[bool]) -> Vec<usize> {
    (0..dynamic.len())
        .filter(|&layer| !dynamic[layer])
        .collect()
}

#[test]
fn rejects_invalid_arguments() {
    for_runners(Variant::Plain, |runner, _| {
        let step = SkipStep::new(layers(), 8, 1);
        let mut rejects = |status: i32, case: Request| {
            assert_eq!(runner.run(&case).unwrap().status, status);
        };
        rejects(BAD_SHAPE, step.request().arg("gap_count", 0));
        rejects(BAD_SHAPE, step.request().arg("gap_count", 65));
        // The fourth gap is empty.
        rejects(BAD_SHAPE, step.request().arg("gap_count", 4));
        rejects(BAD_SHAPE, step.request().arg("hidden_len", 0));
        rejects(BAD_SHAPE, step.request().arg("hidden_len", 65_537));
        rejects(BAD_FLAGS, step.request().arg("begin_flags", 2));
        rejects(BAD_FLAGS, step.request().arg("flags", 2));
        rejects(BAD_FLAGS, step.request().arg("begin_reserved", 1));
        rejects(BAD_FLAGS, step.request().arg("reserved", 1));
        rejects(BAD_FLAGS, step.request().arg("more_next", 1));
        for threshold in [-0.1, 1.1, f32::NAN] {
            let step = SkipStep {
                threshold,
                ..step.clone()
            };
            rejects(BAD_FLAGS, step.request());
        }
        let rest = |case: Request| {
            case.input("first", &[0u32], 4)
                .input("end", &[2u32], 4)
                .arg("gap_count", 1)
        };
        rejects(NULL_POINTER, rest(Request::new("skip")));
        let state = |shift| Request::new("skip").buffer("state", &[0; 8], 8, shift, true);
        rejects(NULL_POINTER, rest(state(0)));
        let gaps = |case: Request, shift| case.buffer("gaps", &[0; 16], 16, shift, true);
        let allow = |case: Request, shift| case.buffer("allow", &[0; 8], 8, shift, false);
        rejects(NULL_POINTER, rest(gaps(state(0), 0)));
        rejects(MISALIGNED, rest(allow(gaps(state(4), 0), 0)));
        rejects(MISALIGNED, rest(allow(gaps(state(0), 8), 0)));
        rejects(MISALIGNED, rest(allow(gaps(state(0), 0), 4)));
    });
}
