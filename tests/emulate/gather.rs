//! The gather of activations into a weight's order of k, against [`KOrder::gather`].

use crate::abi::{AUTO, BAD_FLAGS, BAD_MODE, BAD_SHAPE, BAD_STRIDE, MISALIGNED, NULL_POINTER, PDL};
use crate::build::Variant;
use crate::gemm_case::{GemmCase, expect_ok, for_runners};
use crate::runner::{Reply, Request, Runner};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::seq::SliceRandom;
use test_support::{Kind, bits, rng};
use w4ax::reference;
use w4ax::{Grouping, KOrder, MatMut, MatRef, Width};

// Kernels: elements are moved in pairs where alignment permits, or one by one.
const PAIRS: u32 = 0;
const SINGLES: u32 = 1;

/// Padding between the rows of the result, which must not change.
const PADDING: bf16 = bf16::from_bits(0x1234);

/// A gather of `[m, k]`.
#[derive(Clone, Debug)]
struct Gather {
    m: usize,
    k: usize,
    /// Padding between two rows of x and of the result, in elements.
    gaps: (usize, usize),
    /// Distances of x and of the result from an address aligned to 16 bytes, in elements.
    shifts: (usize, usize),
    kernel: u32,
    seed: u64,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            m: 1,
            k: 100,
            gaps: (0, 0),
            shifts: (0, 0),
            kernel: PAIRS,
            seed: 0,
        }
    }
}

/// Returns a random order.
fn order_of(k: usize, seed: u64) -> KOrder {
    let mut order: Vec<u32> = (0..k as u32).collect();
    order.shuffle(&mut rng(seed));
    KOrder::new(order).unwrap()
}

impl Gather {
    fn strides(&self) -> (usize, usize) {
        (self.k + self.gaps.0, self.k + self.gaps.1)
    }

    /// Returns x with its padding. Any bits occur, so that a misplaced element is detected.
    fn x(&self) -> Vec<bf16> {
        let len = (self.m - 1) * self.strides().0 + self.k;
        Kind::AnyBits.fill(&mut rng(self.seed + 1), len)
    }

    fn request(&self, x: &[bf16], order: &KOrder) -> Request {
        let (x_stride, y_stride) = self.strides();
        let y = vec![PADDING; (self.m - 1) * y_stride + self.k];
        Request::new("gather")
            .set("seed", self.seed as i64)
            .buffer("x", bytemuck::cast_slice(x), 16, 2 * self.shifts.0, false)
            .input("order", order.as_slice(), 8)
            .buffer(
                "gathered",
                bytemuck::cast_slice(&y),
                16,
                2 * self.shifts.1,
                true,
            )
            .arg("x_stride", x_stride)
            .arg("gathered_stride", y_stride)
            .arg("m", self.m)
            .arg("k", self.k)
            .arg("kernel", self.kernel)
    }

    /// Returns the host's result, with the padding between its rows.
    fn expected(&self, x: &[bf16], order: &KOrder) -> Vec<bf16> {
        let (x_stride, y_stride) = self.strides();
        let mut y = vec![PADDING; (self.m - 1) * y_stride + self.k];
        let x = MatRef::with_stride(x, self.m, self.k, x_stride).unwrap();
        let to = MatMut::with_stride(&mut y, self.m, self.k, y_stride).unwrap();
        order.gather(x, to).unwrap();
        y
    }

    fn check(&self, runner: &mut Runner) -> Result<(), String> {
        let (x, order) = (self.x(), order_of(self.k, self.seed));
        let reply = runner.run(&self.request(&x, &order))?;
        let reply: Reply = expect_ok(reply).map_err(|e| format!("{self:?}: {e:?}"))?;
        let got = reply.output::<bf16>("gathered");
        match bits(&got) == bits(&self.expected(&x, &order)) {
            true => Ok(()),
            false => Err(format!("{self:?}: the bits differ from KOrder::gather's")),
        }
    }
}

/// Both kernels: tails of K and M, strides and addresses that exclude pairs, several blocks.
#[test]
fn matches_host_gather() {
    let mut cases = Vec::new();
    for kernel in [PAIRS, SINGLES] {
        for k in [1, 2, 3, 64, 511, 512, 513, 1024, 1027] {
            for m in [1, 2, 7, 8, 9, 17] {
                let at = cases.len();
                cases.push(Gather {
                    m,
                    k,
                    gaps: (at % 4, at / 2 % 4),
                    shifts: (at / 3 % 2, at % 3),
                    kernel,
                    seed: at as u64,
                });
            }
        }
    }
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for case in &cases {
                if let Err(error) = case.check(runner) {
                    panic!("{} {architecture}: {error}", variant.name());
                }
            }
        });
    }
}

#[test]
fn generated_cases_match_host_gather() {
    let strategy = (
        (1usize..20, 1usize..1300),
        (0usize..5, 0usize..5),
        (0usize..8, 0usize..8),
        0u32..2,
        any::<u16>(),
    );
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            let runner = std::cell::RefCell::new(runner);
            let config = Config {
                cases: 150,
                failure_persistence: None,
                ..Config::default()
            };
            TestRunner::new(config)
                .run(&strategy, |((m, k), gaps, shifts, kernel, seed)| {
                    let case = Gather {
                        m,
                        k,
                        gaps,
                        shifts,
                        kernel,
                        seed: u64::from(seed),
                    };
                    let checked = case.check(&mut runner.borrow_mut());
                    checked.map_err(TestCaseError::fail)
                })
                .unwrap_or_else(|e| panic!("{}: {e}", variant.name()));
        });
    }
}

/// A gather, then the GEMM of its result, both with programmatic dependent launch.
///
/// The GEMM must wait before it reads, and the gather before it writes: otherwise TSan reports a
/// race. The GEMM has the reference's bits.
#[test]
fn gemm_waits_for_gather() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for (at, width) in [Width::A4, Width::A8].into_iter().enumerate() {
                for (m, grouping) in [(1, Grouping::G128), (9, Grouping::G32)] {
                    let gemm = GemmCase {
                        m,
                        k: 300,
                        width,
                        grouping,
                        family: AUTO,
                        mode: AUTO,
                        seed: at as u64,
                        ..GemmCase::default()
                    };
                    let (input, order) = (gemm.input(), order_of(gemm.k, 7));
                    let gather = Gather {
                        m,
                        k: gemm.k,
                        ..Gather::default()
                    };
                    let gathered = gather.expected(&input.x, &order);
                    let mut case = gemm
                        .weight_buffers(gemm.arguments("ordered"), &input)
                        .input("x", &input.x, 16)
                        .input("order", order.as_slice(), 8)
                        .output("gathered", &vec![bf16::NAN; gathered.len()], 16)
                        .output("y", &vec![bf16::NAN; m * gemm.n], 16)
                        .output("workspace", &vec![0xA5u8; 1 << 16], 128)
                        .arg("flags", PDL);
                    case = case.arg("gathered_stride", gemm.k);
                    let reply = expect_ok(runner.run(&case).unwrap()).unwrap();
                    assert_eq!(bits(&reply.output::<bf16>("gathered")), bits(&gathered));
                    let x = MatRef::new(&gathered, m, gemm.k).unwrap();
                    let expected = reference::gemm(x, &input.weight, width, None).unwrap();
                    assert_eq!(
                        bits(&reply.output::<bf16>("y")),
                        bits(&expected),
                        "{} {architecture} {gemm:?}",
                        variant.name()
                    );
                }
            }
        });
    }
}

/// Invalid arguments return a status, and nothing is written.
#[test]
fn rejects_invalid_arguments() {
    for_runners(Variant::Plain, |runner, _| {
        let gather = Gather {
            m: 3,
            ..Gather::default()
        };
        let (x, order) = (gather.x(), order_of(gather.k, 0));
        let mut rejects = |status: i32, case: Request| {
            let reply = runner.run(&case).unwrap();
            assert_eq!(reply.status, status);
            if let Some(bytes) = reply.outputs.get("gathered") {
                let padding = PADDING.to_bits().to_ne_bytes();
                assert!(bytes.chunks(2).all(|value| value == padding));
            }
        };
        let case = || gather.request(&x, &order);
        rejects(BAD_SHAPE, case().arg("m", 0));
        rejects(BAD_SHAPE, case().arg("k", 0));
        rejects(BAD_SHAPE, case().arg("k", 8_388_609));
        rejects(BAD_STRIDE, case().arg("k", 101));
        rejects(BAD_STRIDE, case().arg("x_stride", 99));
        rejects(BAD_STRIDE, case().arg("gathered_stride", 99));
        rejects(BAD_STRIDE, case().arg("gathered_stride", 536_870_913));
        rejects(BAD_MODE, case().arg("kernel", 2));
        rejects(BAD_FLAGS, case().arg("flags", 2));
        rejects(BAD_FLAGS, case().arg("reserved", 1));
        // 8388608 tokens need more blocks than a grid allows in its second dimension.
        rejects(BAD_SHAPE, case().arg("m", 8_388_608));
        let arguments = || {
            let mut case = Request::new("gather");
            for (name, value) in [
                ("m", 3),
                ("k", 100),
                ("x_stride", 100),
                ("gathered_stride", 100),
            ] {
                case = case.arg(name, value);
            }
            case
        };
        let bytes = bytemuck::cast_slice::<bf16, u8>(&x);
        let y = vec![PADDING; 300];
        rejects(NULL_POINTER, arguments());
        rejects(
            NULL_POINTER,
            arguments().input("x", bytes, 16).output("gathered", &y, 16),
        );
        let ordered = || arguments().input("x", bytes, 16).output("gathered", &y, 16);
        let ks = bytemuck::cast_slice::<u32, u8>(order.as_slice());
        rejects(MISALIGNED, ordered().buffer("order", ks, 8, 4, false));
        let odd = arguments()
            .input("order", order.as_slice(), 8)
            .output("gathered", &y, 16)
            .buffer("x", bytes, 16, 1, false);
        rejects(MISALIGNED, odd);
    });
}

/// An order that is no permutation is rejected on the host.
#[test]
fn host_rejects_order_that_is_no_permutation() {
    for wrong in [vec![0, 1, 3], vec![0, 0, 1], vec![u32::MAX]] {
        assert!(KOrder::new(wrong).is_err());
    }
}
