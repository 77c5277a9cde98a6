//! The gather of activations into a weight's order of k, by the emulator of `kernels/emulate`, against [`KOrder::gather`].

use crate::gemm_case::{Gemm, expect_ok, for_runners};
use crate::runner::{Answer, Case, Runner, Variant};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::seq::SliceRandom;
use test_support::{Kind, bits, rng};
use w4ax::reference;
use w4ax::{Grouping, KOrder, MatMut, MatRef, Width};

/// Statuses of `w4axk_status`.
const NULL_POINTER: i32 = 1;
const BAD_SHAPE: i32 = 2;
const BAD_STRIDE: i32 = 3;
const BAD_MODE: i32 = 8;
const BAD_FLAGS: i32 = 10;
const MISALIGNED: i32 = 11;

const PAIRS: u32 = 0;
const PLAIN: u32 = 1;
const PDL: u32 = 1;

/// What lies between the rows of the result, and must stay there.
const BETWEEN: bf16 = bf16::from_bits(0x1234);

#[derive(Clone, Debug)]
struct Gather {
    m: usize,
    k: usize,
    /// Elements between two rows of x and of the result beyond K.
    gaps: (usize, usize),
    /// Elements that they start past an address aligned to 16 bytes.
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

fn order_of(k: usize, seed: u64) -> KOrder {
    let mut order: Vec<u32> = (0..k as u32).collect();
    order.shuffle(&mut rng(seed));
    KOrder::new(order).unwrap()
}

impl Gather {
    fn strides(&self) -> (usize, usize) {
        (self.k + self.gaps.0, self.k + self.gaps.1)
    }

    /// x with its gaps: every value of 16 bits, so that one that is moved wrongly shows.
    fn x(&self) -> Vec<bf16> {
        let len = (self.m - 1) * self.strides().0 + self.k;
        Kind::AnyBits.fill(&mut rng(self.seed + 1), len)
    }

    fn case(&self, x: &[bf16], order: &KOrder) -> Case {
        let (x_stride, y_stride) = self.strides();
        let y = vec![BETWEEN; (self.m - 1) * y_stride + self.k];
        Case::new("gather")
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

    /// The host's result, with what lies between its rows.
    fn expected(&self, x: &[bf16], order: &KOrder) -> Vec<bf16> {
        let (x_stride, y_stride) = self.strides();
        let mut y = vec![BETWEEN; (self.m - 1) * y_stride + self.k];
        let x = MatRef::with_stride(x, self.m, self.k, x_stride).unwrap();
        let to = MatMut::with_stride(&mut y, self.m, self.k, y_stride).unwrap();
        order.gather(x, to).unwrap();
        y
    }

    fn check(&self, runner: &mut Runner) -> Result<(), String> {
        let (x, order) = (self.x(), order_of(self.k, self.seed));
        let answer = runner.run(&self.case(&x, &order))?;
        let answer: Answer = expect_ok(answer).map_err(|e| format!("{self:?}: {e:?}"))?;
        let got = answer.output::<bf16>("gathered");
        match bits(&got) == bits(&self.expected(&x, &order)) {
            true => Ok(()),
            false => Err(format!("{self:?}: the bits are not KOrder::gather's")),
        }
    }
}

/// Tails of K and M, strides and addresses that forbid pairs, both kernels; more than one block along both.
#[test]
fn a_gather_has_the_hosts_bits() {
    let mut cases = Vec::new();
    for kernel in [PAIRS, PLAIN] {
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
fn generated_gathers_have_the_hosts_bits() {
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

/// A gather and the GEMM of what it gives, both with programmatic dependent launch: the GEMM must wait before it reads, and the
/// gather before it writes, which TSan would report else. The mirror's bits, at each width.
#[test]
fn a_gemm_follows_its_gather() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for (at, width) in [Width::A4, Width::A8].into_iter().enumerate() {
                for (m, grouping) in [(1, Grouping::G128), (9, Grouping::G32)] {
                    let gemm = Gemm {
                        m,
                        k: 300,
                        width,
                        grouping,
                        family: crate::gemm_case::AUTO,
                        mode: crate::gemm_case::AUTO,
                        seed: at as u64,
                        ..Gemm::default()
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
                    let answer = expect_ok(runner.run(&case).unwrap()).unwrap();
                    assert_eq!(bits(&answer.output::<bf16>("gathered")), bits(&gathered));
                    let x = MatRef::new(&gathered, m, gemm.k).unwrap();
                    let expected = reference::gemm(x, &input.weight, width, None).unwrap();
                    assert_eq!(
                        bits(&answer.output::<bf16>("y")),
                        bits(&expected),
                        "{} {architecture} {gemm:?}",
                        variant.name()
                    );
                }
            }
        });
    }
}

/// What cannot run is a status, and nothing is written.
#[test]
fn wrong_arguments_are_refused() {
    for_runners(Variant::Plain, |runner, _| {
        let gather = Gather {
            m: 3,
            ..Gather::default()
        };
        let (x, order) = (gather.x(), order_of(gather.k, 0));
        let mut refused = |status: i32, case: Case| {
            let answer = runner.run(&case).unwrap();
            assert_eq!(answer.status, status);
            if let Some(bytes) = answer.outputs.get("gathered") {
                let between = BETWEEN.to_bits().to_ne_bytes();
                assert!(bytes.chunks(2).all(|value| value == between));
            }
        };
        let case = || gather.case(&x, &order);
        refused(BAD_SHAPE, case().arg("m", 0));
        refused(BAD_SHAPE, case().arg("k", 0));
        refused(BAD_SHAPE, case().arg("k", 8_388_609));
        refused(BAD_STRIDE, case().arg("k", 101));
        refused(BAD_STRIDE, case().arg("x_stride", 99));
        refused(BAD_STRIDE, case().arg("gathered_stride", 99));
        refused(BAD_STRIDE, case().arg("gathered_stride", 536_870_913));
        refused(BAD_MODE, case().arg("kernel", 2));
        refused(BAD_FLAGS, case().arg("flags", 2));
        refused(BAD_FLAGS, case().arg("reserved", 1));
        // 8388608 tokens are more blocks than a grid has in its second dimension.
        refused(BAD_SHAPE, case().arg("m", 8_388_608));
        let arguments = || {
            let mut case = Case::new("gather");
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
        let y = vec![BETWEEN; 300];
        refused(NULL_POINTER, arguments());
        refused(
            NULL_POINTER,
            arguments().input("x", bytes, 16).output("gathered", &y, 16),
        );
        let ordered = || arguments().input("x", bytes, 16).output("gathered", &y, 16);
        let ks = bytemuck::cast_slice::<u32, u8>(order.as_slice());
        refused(MISALIGNED, ordered().buffer("order", ks, 8, 4, false));
        let odd = arguments()
            .input("order", order.as_slice(), 8)
            .output("gathered", &y, 16)
            .buffer("x", bytes, 16, 1, false);
        refused(MISALIGNED, odd);
    });
}

/// An order that is none never gets to a device.
#[test]
fn an_index_out_of_range_is_no_order() {
    for wrong in [vec![0, 1, 3], vec![0, 0, 1], vec![u32::MAX]] {
        assert!(KOrder::new(wrong).is_err());
    }
}
