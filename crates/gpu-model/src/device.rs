//! What is known of GPUs, and the bytes of a call.

use std::borrow::Cow;
use w4ax::cuda::{Mma, Mode, Plan, Problem, QuantizedActivations};
use w4ax::{Grouping, Result, Width};

/// What the model must know of a GPU. The rates are dense operations (two a multiply-add) of an SM in a clock.
#[derive(Clone, Debug)]
pub struct DeviceProps<'a> {
    pub name: &'a str,
    /// Such as `sm_80`.
    pub arch: Cow<'static, str>,
    pub sms: f64,
    pub ghz: f64,
    pub gb_per_s: f64,
    /// None from sm_90 on.
    pub s4: Option<f64>,
    pub s8: f64,
    pub bf16: f64,
    /// The share of the densest rate (wgmma's) that `mma.sync` has, whose rates the three are.
    pub mma_share: f64,
}

/// SMs, boost clock, bandwidth and dense rates as the documents named beside each chip give them: a rate here is theirs
/// divided by SMs and clock (A100: 312 TFLOPS / 108 / 1.41 GHz = 2048). GeForce chips run BF16 with f32 sums at half rate.
///
/// The documents were read as quoted by others, not as NVIDIA's files; each number was found at least once, but for what is
/// marked as not found.
pub const CHIPS: &[DeviceProps<'static>] = &[
    // "NVIDIA A100 Tensor Core GPU Architecture" (1410 MHz; BF16 312 TFLOPS, INT8 624, INT4 1248 TOPS) and the data sheet
    // "NVIDIA A100 Tensor Core GPU" (2,039 GB/s).
    DeviceProps {
        name: "A100-SXM-80GB",
        arch: Cow::Borrowed("sm_80"),
        sms: 108.0,
        ghz: 1.41,
        gb_per_s: 2039.0,
        s4: Some(8192.0),
        s8: 4096.0,
        bf16: 2048.0,
        mma_share: 1.0,
    },
    // "NVIDIA Ampere GA102 GPU Architecture" V2.0, appendix A (16-bit with FP32 accumulate 71 TFLOPS, INT8 284 TOPS). INT4 at
    // twice INT8: as the data sheet "NVIDIA A40" has it for the same chip (299.3 and 598.7 TOPS).
    DeviceProps {
        name: "RTX 3090",
        arch: Cow::Borrowed("sm_86"),
        sms: 82.0,
        ghz: 1.695,
        gb_per_s: 936.0,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 512.0,
        mma_share: 1.0,
    },
    // The same, table 3 (84 SMs, 768 GB/s, BF16 154.8 TFLOPS, INT8 309.7 TOPS; INT4 619.3 TOPS by others that quote it).
    DeviceProps {
        name: "RTX A6000",
        arch: Cow::Borrowed("sm_86"),
        sms: 84.0,
        ghz: 1.80,
        gb_per_s: 768.0,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 1024.0,
        mma_share: 1.0,
    },
    // "NVIDIA Ada GPU Architecture", appendix A (128 SMs, 2520 MHz, 1008 GB/s, BF16 with FP32 accumulate 165.2 TFLOPS, INT8 660.6
    // TOPS). Its INT4 line was not found; hardware lists have twice INT8, while the data sheet "NVIDIA L40S" gives that Ada
    // chip the same rate for both: the s4 rate is the least certain number of this table.
    DeviceProps {
        name: "RTX 4090",
        arch: Cow::Borrowed("sm_89"),
        sms: 128.0,
        ghz: 2.52,
        gb_per_s: 1008.0,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 512.0,
        mma_share: 1.0,
    },
    // "NVIDIA Jetson AGX Orin Series Technical Brief" and the modules' data sheet DS-10662-001 (16 SMs, 1.3 GHz, 204.8 GB/s, 170
    // sparse INT8 TOPS on the GPU: 85 dense). No rate of BF16 or INT4 was found: those of the A100, whose INT8 rate it has.
    DeviceProps {
        name: "Jetson AGX Orin 64GB",
        arch: Cow::Borrowed("sm_87"),
        sms: 16.0,
        ghz: 1.3,
        gb_per_s: 204.8,
        s4: Some(8192.0),
        s8: 4096.0,
        bf16: 2048.0,
        mma_share: 1.0,
    },
    // "NVIDIA H100 Tensor Core GPU Architecture", table 3 (132 SMs, 1830 MHz for tensor cores, 3352 GB/s, BF16 989.4 TFLOPS,
    // INT8 1978.9 TOPS).
    DeviceProps {
        name: "H100-SXM",
        arch: Cow::Borrowed("sm_90"),
        sms: 132.0,
        ghz: 1.83,
        gb_per_s: 3352.0,
        s4: None,
        s8: SM90 * 8192.0,
        bf16: SM90 * 4096.0,
        mma_share: SM90,
    },
];
/// The share of the sheet's rate, wgmma's, that `mma.sync` reaches on sm_90, on average: Luo et al., "Dissecting the NVIDIA
/// Hopper Architecture through Microbenchmarking and Multiple Level Analysis", arXiv:2501.12084, section 6.2.
pub const SM90: f64 = 0.629;

impl DeviceProps<'static> {
    /// The rates of an architecture, for a chip that is measured. `None` where the model has no numbers.
    pub fn rates(major: i32, minor: i32, name: &str) -> Option<(Option<f64>, f64, f64)> {
        match (major, minor) {
            (8, 0 | 7) => Some((Some(8192.0), 4096.0, 2048.0)),
            (8, 6 | 9) if name.contains("GeForce") => Some((Some(4096.0), 2048.0, 512.0)),
            (8, 6 | 9) => Some((Some(4096.0), 2048.0, 1024.0)),
            (9, _) => Some((None, SM90 * 8192.0, SM90 * 4096.0)),
            _ => None,
        }
    }
}

impl DeviceProps<'_> {
    /// Dense operations of an SM in a clock.
    pub fn rate(&self, mma: Mma) -> f64 {
        match mma {
            Mma::S4 => self.s4.unwrap_or(self.s8),
            Mma::S8 => self.s8,
            _ => self.bf16,
        }
    }

    /// f32 operations of an SM in a clock.
    pub fn f32_lanes(&self) -> f64 {
        if self.arch == "sm_80" { 64.0 } else { 128.0 }
    }
}

/// The instruction that a chip's kernel of that width has, by the design.
pub fn mma(chip: &DeviceProps<'_>, width: Width) -> Mma {
    match width {
        Width::A2 | Width::A4 if chip.s4.is_some() => Mma::S4,
        Width::Bf16 => Mma::Bf16,
        _ => Mma::S8,
    }
}

/// Bytes of a symmetric weight with 16-bit scales, and of its sums.
pub fn weight_bytes(n: usize, k: usize, grouping: Grouping) -> f64 {
    let (rows, groups) = (n.next_multiple_of(16), grouping.groups(k));
    let sum_bytes = if grouping == Grouping::PerChannel {
        4
    } else {
        2
    };
    (rows / 16 * k.div_ceil(64) * 512 + rows * groups * (2 + sum_bytes)) as f64
}

/// Bytes of activations as the plan's kernel reads them packed.
pub fn packed_bytes(case: &Problem, plan: &Plan) -> Result<f64> {
    let layout = plan.family.packed_layout().expect("a family that packs");
    let Problem { m, k, .. } = *case;
    Ok(QuantizedActivations::bytes_for(m, k, case.width, case.grouping, layout)? as f64)
}

/// Tiles, scales and sums once, x and y once, packed activations written and read once.
pub fn call_bytes(case: &Problem, plan: &Plan) -> Result<f64> {
    let Problem { m, n, k, .. } = *case;
    let mut bytes = weight_bytes(n, k, case.grouping) + (2 * m * n) as f64;
    if plan.mode == Mode::Packed {
        bytes += packed_bytes(case, plan)? * f64::from(plan.launches);
    }
    if plan.mode == Mode::Fused || plan.launches > 1 {
        bytes += (2 * m * k) as f64;
    }
    Ok(bytes)
}
