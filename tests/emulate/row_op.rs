//! RMSNorm, alone or after an addition to x, and `silu(gate) * up`: as BF16 rows against
//! [`reference`], and quantized at once against quantize_pack of these rows, byte for byte.

use crate::abi::*;
use crate::build::Variant;
use crate::gemm_case::{GemmCase, expect_ok, for_runners, for_sm90};
use crate::runner::{Reply, Request, Runner};
use half::bf16;
use test_support::{Kind, bits, rng};
use w4ax::{Grouping, MatRef, RmsNorm, SiluMul, Width, numerics, reference};

// w4axk_row_op_kernel.
const FAST: u32 = 0;
const REFERENCE: u32 = 1;

/// Padding between the rows of the result, which must not change.
const PADDING: bf16 = bf16::from_bits(0x1234);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    RmsNorm,
    /// Of f32 rows.
    WideRmsNorm,
    SiluMul,
}

const OPS: [Op; 3] = [Op::RmsNorm, Op::WideRmsNorm, Op::SiluMul];

/// An operation of `[m, k]`.
#[derive(Clone, Debug)]
struct Case {
    op: Op,
    m: usize,
    k: usize,
    /// Padding between two rows of x, of the second operand and of the result, in elements.
    gaps: (usize, usize, usize),
    /// Distances from an aligned address, in elements.
    shifts: (usize, usize, usize),
    kinds: (Kind, Kind),
    eps: f32,
    /// Whether something is added to x first. Its rows have the gaps and the shift of the second
    /// operand.
    addend: bool,
    /// Whether the first value of x in f32, and of its weight, is 1: the first result is then the
    /// scale of the norm.
    shows_scale: bool,
    seed: u64,
}

impl Case {
    fn numbered(op: Op, (m, k): (usize, usize), at: usize) -> Self {
        let kinds = Kind::ALL;
        Self {
            op,
            m,
            k,
            gaps: (at % 4, at / 2 % 3, at / 3 % 4),
            shifts: (at / 3 % 2, at / 4 % 2, at % 3),
            kinds: (kinds[at % kinds.len()], kinds[at / 3 % kinds.len()]),
            eps: [1e-5, 1e-6, 2.0][at % 3],
            addend: op != Op::SiluMul && at / 2 % 2 == 1,
            shows_scale: false,
            seed: at as u64,
        }
    }

    fn strides(&self) -> (usize, usize, usize) {
        let (k, gaps) = (self.k, self.gaps);
        (k + gaps.0, k + gaps.1, k + gaps.2)
    }

    /// Returns x, also in f32, and the second operand, without the padding of the last row.
    fn operands(&self) -> (Vec<bf16>, Vec<f32>, Vec<bf16>) {
        let rng = &mut rng(self.seed + 1);
        let (x_stride, factor_stride, _) = self.strides();
        let len = |stride: usize| (self.m - 1) * stride + self.k;
        let x = self.kinds.0.fill(rng, len(x_stride));
        let mut wide: Vec<f32> = x.iter().map(|v| v.to_f32() * 1.003).collect();
        let mut factor = match self.op {
            Op::SiluMul => self.kinds.1.fill(rng, len(factor_stride)),
            _ => self.kinds.1.fill(rng, self.k),
        };
        if self.shows_scale {
            (wide[0], factor[0]) = (1.0, bf16::ONE);
        }
        (x, wide, factor)
    }

    /// Returns the addend, without the padding of the last row.
    fn addend(&self) -> Vec<bf16> {
        let len = (self.m - 1) * self.strides().1 + self.k;
        self.kinds.1.fill(&mut rng(self.seed + 1000), len)
    }

    /// Returns x after the addition, also in f32, with its padding.
    fn sums(&self) -> (Vec<bf16>, Vec<f32>) {
        let (mut x, mut wide, _) = self.operands();
        let (stride, addend_stride, _) = self.strides();
        let addend = self.addend();
        for at in (0..self.m * self.k).filter(|_| self.addend) {
            let (token, k) = (at / self.k, at % self.k);
            let (to, addend) = (
                token * stride + k,
                addend[token * addend_stride + k].to_f32(),
            );
            let sum = x[to].to_f32() + addend;
            x[to] = match sum.is_nan() {
                true => bf16::from_bits(0x7FFF),
                false => bf16::from_f32(sum),
            };
            wide[to] += addend;
        }
        (x, wide)
    }

    /// Checks the x that a request has left.
    fn check_x(&self, reply: &Reply, what: &str) {
        let Some(bytes) = reply.outputs.get("x") else {
            assert!(!self.addend, "{what}: x is no output");
            return;
        };
        let (x, wide) = self.sums();
        if self.op == Op::WideRmsNorm {
            let got: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(bytes);
            let same =
                |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(
                got.len() == wide.len() && got.iter().zip(&wide).all(same),
                "{what}: x"
            );
        } else {
            let got: Vec<bf16> = bytemuck::allocation::pod_collect_to_vec(bytes);
            assert!(bits(&got) == bits(&x), "{what}: x");
        }
    }

    /// Returns the rows of the reference, dense.
    fn rows(&self) -> Vec<bf16> {
        let (x, wide) = self.sums();
        let (_, _, factor) = self.operands();
        let (m, k, (x_stride, factor_stride, _)) = (self.m, self.k, self.strides());
        let of = |data| MatRef::with_stride(data, m, k, x_stride).unwrap();
        match self.op {
            Op::RmsNorm => reference::rms_norm(&RmsNorm::new(of(&x), &factor, self.eps)),
            Op::WideRmsNorm => {
                let x = MatRef::with_stride(&wide, m, k, x_stride).unwrap();
                reference::rms_norm(&RmsNorm::new(x, &factor, self.eps))
            }
            Op::SiluMul => {
                let up = MatRef::with_stride(&factor, m, k, factor_stride).unwrap();
                reference::silu_mul(&SiluMul::new(of(&x), up))
            }
        }
        .unwrap()
    }

    /// Returns a request with the operands.
    fn request(&self, function: &'static str) -> Request {
        let (x, wide, factor) = self.operands();
        let (x_stride, factor_stride, y_stride) = self.strides();
        let (x, align, size): (&[u8], _, _) = match self.op {
            Op::WideRmsNorm => (bytemuck::cast_slice(&wide), 8, 4),
            _ => (bytemuck::cast_slice(&x), 4, 2),
        };
        let factor = bytemuck::cast_slice(&factor);
        let factor_stride = if self.op == Op::SiluMul {
            factor_stride
        } else {
            0
        };
        let addend = self.addend();
        let request = match self.addend {
            false => Request::new(function),
            true => Request::new(function)
                .buffer(
                    "addend",
                    bytemuck::cast_slice(&addend),
                    16,
                    2 * self.shifts.1,
                    false,
                )
                .arg("addend_stride", self.strides().1),
        };
        request
            .set("seed", self.seed as i64)
            .buffer("x", x, align.max(8), size * self.shifts.0, self.addend)
            .buffer("factor", factor, 16, 2 * self.shifts.1, false)
            .arg("x_stride", x_stride)
            .arg("factor_stride", factor_stride)
            .arg("rows_stride", y_stride)
            .arg("m", self.m)
            .arg("k", self.k)
            .arg("op", u32::from(self.op == Op::SiluMul))
            .arg("x_type", u32::from(self.op == Op::WideRmsNorm))
            .arg("eps", self.eps.to_bits())
    }

    /// The result before the launch, with its padding.
    fn poison(&self) -> Vec<bf16> {
        vec![PADDING; (self.m - 1) * self.strides().2 + self.k]
    }

    fn with_rows(&self, request: Request) -> Request {
        let poison = self.poison();
        let bytes = bytemuck::cast_slice(&poison);
        request.buffer("rows", bytes, 16, 2 * self.shifts.2, true)
    }

    /// Returns the rows with the padding of the result.
    fn padded(&self, rows: &[bf16]) -> Vec<bf16> {
        let mut y = self.poison();
        for (y, row) in y.chunks_mut(self.strides().2).zip(rows.chunks(self.k)) {
            y[..self.k].copy_from_slice(row);
        }
        y
    }

    /// Checks the BF16 rows of both kernels.
    fn check_rows(&self, runner: &mut Runner, flags: u32) {
        let expected = self.padded(&self.rows());
        for (kernel, group) in [(FAST, 0), (FAST, 32), (FAST, 128), (REFERENCE, 0)] {
            let request = self.request("row_op").arg("width", 16).arg("group", group);
            let request = request.arg("kernel", kernel).arg("flags", flags);
            let reply = expect_ok(runner.run(&self.with_rows(request)).unwrap()).unwrap();
            let what = format!("{self:?}, kernel {kernel}, group {group}");
            assert!(
                bits(&reply.output::<bf16>("rows")) == bits(&expected),
                "{what}"
            );
            self.check_x(&reply, &what);
        }
    }

    /// Checks the bytes of a width, also at a latch that holds the width.
    fn check_bytes(&self, runner: &mut Runner, width: Width, grouping: Grouping, family: u32) {
        let rows = self.rows();
        let group = grouping.size().unwrap_or(0);
        let how = |request: Request| {
            let request = request
                .arg("m", self.m)
                .arg("k", self.k)
                .arg("group", group);
            request.arg("family", family)
        };
        let fixed = |request: Request| how(request).arg("width", width.bits());
        let bytes = |runner: &mut Runner, width: u32| {
            let request = how(Request::new("packed_bytes")).arg("width", width);
            let reply = expect_ok(runner.run(&request).unwrap()).unwrap();
            vec![0xA5u8; reply.values["bytes"] as usize]
        };
        let quantize = fixed(Request::new("quantize_pack").input("x", &rows, 16))
            .arg("x_stride", self.k)
            .output("packed", &bytes(runner, width.bits()), 128);
        let expected = expect_ok(runner.run(&quantize).unwrap()).unwrap();
        let fused = fixed(self.request("row_op"))
            .output("packed", &bytes(runner, width.bits()), 128)
            .arg("flags", PDL);
        let reply = expect_ok(runner.run(&fused).unwrap()).unwrap();
        let what = format!("{self:?} {width} {grouping} family {family}");
        assert!(
            reply.outputs["packed"] == expected.outputs["packed"],
            "{what}"
        );
        self.check_x(&reply, &what);
        let latched = 41 << 32 | u64::from(width.bits());
        let memory = bytes(runner, LATCHED);
        let request = how(self.request("row_op"))
            .arg("width", LATCHED)
            .input("latch", &[latched, 42], 16)
            .output("packed", &memory, 128);
        let reply = expect_ok(runner.run(&self.with_rows(request)).unwrap()).unwrap();
        let (written, rest) = reply.outputs["packed"].split_at(expected.outputs["packed"].len());
        assert!(written == expected.outputs["packed"], "{what}, latched");
        assert!(
            rest.iter().all(|byte| *byte == 0xA5),
            "{what}: wrote behind the codes"
        );
        assert!(
            bits(&reply.output::<bf16>("rows")) == bits(&self.poison()),
            "{what}: rows"
        );
        self.check_x(&reply, &what);
    }

    /// Checks a step of 16 bits at a latch.
    fn check_latched_rows(&self, runner: &mut Runner, grouping: Grouping) {
        let latched = 41 << 32 | 16u64;
        let packed = vec![0xA5u8; 1 << 18];
        let request = self
            .request("row_op")
            .arg("width", LATCHED)
            .arg("group", grouping.size().unwrap_or(0))
            .input("latch", &[latched, 42], 16)
            .output("packed", &packed, 128);
        let reply = expect_ok(runner.run(&self.with_rows(request)).unwrap()).unwrap();
        let expected = self.padded(&self.rows());
        assert!(
            bits(&reply.output::<bf16>("rows")) == bits(&expected),
            "{self:?} {grouping}"
        );
        assert!(
            reply.outputs["packed"] == packed,
            "{self:?} {grouping}: wrote codes"
        );
        self.check_x(&reply, "a step of 16 bits");
    }
}

/// Odd shapes: tails of octets, tiles and blocks of the sum, several rounds of the sum.
fn shapes(variant: Variant) -> Vec<(usize, usize)> {
    let mut shapes = vec![(1, 1), (9, 33), (3, 511), (2, 513), (8, 256), (1, 4097)];
    if variant == Variant::Plain {
        shapes.extend([(17, 64), (1, 1024), (5, 300), (2, 9000), (1, 63), (7, 1151)]);
    }
    shapes
}

#[test]
fn rows_match_reference() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            for (at, shape) in shapes(variant).into_iter().enumerate() {
                for (of, op) in OPS.into_iter().enumerate() {
                    let case = Case::numbered(op, shape, 3 * at + of);
                    case.check_rows(runner, if at % 2 == 0 { PDL } else { 0 });
                }
            }
        });
    }
}

/// Returns an eps with which a row whose sum of squares is `other` has another scale in BF16 than
/// one with the sum `sum`, the next f32.
fn separating_eps(k: usize, sum: f32, other: f32) -> Option<f32> {
    let scale = |sum: f32, eps: f32| bf16::from_f32(1.0 / (sum / k as f32 + eps).sqrt());
    let near = f32::from(scale(sum, 0.0)) * 0.7;
    // Halfway between two BF16.
    let middle = f32::from_bits(near.to_bits() & 0xFFFF_0000 | 0x8000);
    let eps = 1.0 / (middle * middle) - sum / k as f32;
    let candidates = (0..4000).map(|at| f32::from_bits(eps.to_bits() - 2000 + at));
    candidates
        .into_iter()
        .find(|&eps| scale(sum, eps) != scale(other, eps))
}

/// The lanes of a sum of squares are added in the order of the numerics. Another order changes the
/// last bits of the sum, which BF16 hides except with the right eps.
#[test]
fn lanes_are_added_in_order() {
    for_runners(Variant::Plain, |runner, _| {
        let mut checked = 0;
        for at in 0..20 {
            let mut case = Case {
                kinds: (Kind::Normal, Kind::Normal),
                gaps: (0, 0, 0),
                addend: false,
                shows_scale: true,
                ..Case::numbered(Op::WideRmsNorm, (1, 2048 + 97 * at), at)
            };
            let sum = numerics::sum_of_squares(&case.operands().1, |x: f32| x);
            for other in [sum.next_up(), sum.next_down()] {
                let Some(eps) = separating_eps(case.k, sum, other) else {
                    continue;
                };
                case.eps = eps;
                case.check_rows(runner, 0);
                checked += 1;
            }
        }
        assert!(checked > 20, "{checked}");
    });
}

#[test]
fn quantized_bytes_are_those_of_quantize_pack() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, _| {
            let mut at = 0;
            for shape in shapes(variant) {
                for op in OPS {
                    for grouping in Grouping::ALL {
                        at += 1;
                        let case = Case::numbered(op, shape, at);
                        let width = [Width::A2, Width::A4, Width::A8][at % 3];
                        case.check_bytes(runner, width, grouping, AUTO);
                        case.check_bytes(runner, width, grouping, WGMMA);
                        if at % 3 == 0 {
                            case.check_latched_rows(runner, grouping);
                        }
                    }
                }
            }
        });
    }
}

/// All widths in all groups, in both layouts, for a shape with several tiles.
#[test]
fn every_width_has_the_bytes_of_quantize_pack() {
    for_sm90(Variant::Plain, |runner| {
        for (at, op) in OPS.into_iter().enumerate() {
            for grouping in Grouping::ALL {
                for width in [Width::A2, Width::A4, Width::A8] {
                    let case = Case {
                        kinds: (Kind::Normal, Kind::Normal),
                        ..Case::numbered(op, (11, 700), at)
                    };
                    case.check_bytes(runner, width, grouping, AUTO);
                    case.check_bytes(runner, width, grouping, WGMMA);
                }
            }
        }
    });
}

/// An operation, then the GEMM of its result, both with programmatic dependent launch.
///
/// The GEMM must wait before it reads, and the operation before it writes: otherwise TSan reports a
/// race. The GEMM has the reference's bits.
#[test]
fn gemm_waits_for_the_operation() {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            for (at, (m, grouping)) in [(4, Grouping::G128), (9, Grouping::PerChannel)]
                .into_iter()
                .enumerate()
            {
                for (op, width) in [(Op::RmsNorm, Width::A4), (Op::SiluMul, Width::A8)] {
                    let gemm = GemmCase {
                        m,
                        k: 300,
                        width,
                        grouping,
                        family: AUTO,
                        mode: PACKED,
                        seed: at as u64,
                        ..GemmCase::default()
                    };
                    let case = Case {
                        kinds: (Kind::Normal, Kind::Normal),
                        addend: op == Op::RmsNorm,
                        ..Case::numbered(op, (m, gemm.k), 0)
                    };
                    let weight = gemm.input();
                    let bytes = gemm.arguments("packed_bytes");
                    let bytes = expect_ok(runner.run(&bytes).unwrap()).unwrap().values["bytes"];
                    let request = gemm
                        .weight_buffers(case.request("fused_gemm"), &weight)
                        .arg("width", width.bits())
                        .arg("mode", PACKED)
                        .arg("y_stride", gemm.n)
                        .arg("flags", PDL)
                        .output("packed", &vec![0xA5u8; bytes as usize], 128)
                        .output("y", &vec![bf16::NAN; m * gemm.n], 16);
                    let reply = expect_ok(runner.run(&request).unwrap()).unwrap();
                    let rows = case.rows();
                    let x = MatRef::new(&rows, m, gemm.k).unwrap();
                    let expected = reference::gemm(x, &weight.weight, width, None).unwrap();
                    assert!(
                        bits(&reply.output::<bf16>("y")) == bits(&expected),
                        "{} {architecture} {case:?}",
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
        let mut rejects = |status: i32, request: Request| {
            let reply = runner.run(&request).unwrap();
            assert_eq!(reply.status, status);
            if let Some(bytes) = reply.outputs.get("rows") {
                let padding = PADDING.to_bits().to_ne_bytes();
                assert!(bytes.chunks(2).all(|value| value == padding));
            }
        };
        for op in [Op::RmsNorm, Op::SiluMul] {
            let case = Case {
                shifts: (0, 0, 0),
                gaps: (0, 0, 0),
                ..Case::numbered(op, (3, 100), 0)
            };
            let rows = || case.with_rows(case.request("row_op").arg("width", 16));
            let packed = || {
                let request = case.request("row_op").arg("width", 4).arg("group", 32);
                request.output("packed", &[0u8; 4096], 128)
            };
            rejects(BAD_SHAPE, rows().arg("m", 0));
            rejects(BAD_SHAPE, rows().arg("k", 8_388_609));
            rejects(BAD_WIDTH, rows().arg("width", 3));
            rejects(BAD_FAMILY, rows().arg("family", PLAIN));
            rejects(BAD_MODE, rows().arg("op", 2));
            rejects(BAD_MODE, rows().arg("x_type", 2));
            rejects(BAD_MODE, rows().arg("kernel", 2));
            rejects(BAD_MODE, packed().arg("kernel", REFERENCE));
            rejects(BAD_FLAGS, rows().arg("flags", 2));
            rejects(BAD_FLAGS, rows().arg("reserved", 1));
            rejects(BAD_STRIDE, rows().arg("x_stride", 99));
            rejects(BAD_STRIDE, rows().arg("rows_stride", 99));
            rejects(BAD_STRIDE, rows().arg("factor_stride", 99));
            rejects(NULL_POINTER, case.request("row_op").arg("width", 16));
            rejects(NULL_POINTER, case.request("row_op").arg("width", 8));
            rejects(NULL_POINTER, case.with_rows(packed().arg("width", LATCHED)));
            let short = case
                .request("row_op")
                .arg("width", 8)
                .output("packed", &[0u8; 256], 128);
            rejects(WORKSPACE_TOO_SMALL, short);
            let odd = case.request("row_op").arg("width", 4);
            rejects(MISALIGNED, odd.buffer("packed", &[0; 4096], 128, 64, true));
            let addend = |request: Request| {
                request
                    .buffer("addend", &[0; 600], 16, 0, false)
                    .arg("addend_stride", 100)
            };
            match op {
                Op::SiluMul => {
                    rejects(BAD_MODE, rows().arg("x_type", 1));
                    rejects(BAD_MODE, addend(rows()));
                }
                _ => {
                    rejects(BAD_STRIDE, addend(rows()).arg("addend_stride", 99));
                    let odd = rows().arg("addend_stride", 100);
                    rejects(MISALIGNED, odd.buffer("addend", &[0; 600], 16, 1, false));
                    for eps in [0.0, -1.0, f32::NAN, f32::INFINITY] {
                        rejects(BAD_MODE, rows().arg("eps", eps.to_bits()));
                    }
                }
            }
        }
    });
}
