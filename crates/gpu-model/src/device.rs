//! The GPUs that the model knows, and their rates.

use std::borrow::Cow;

use w4ax::Width;
use w4ax::cuda::Mma;

/// The properties of a GPU that predictions need.
///
/// Rates are dense operations of a multiprocessor per clock, two per multiply-add.
#[derive(Clone, Debug)]
pub struct DeviceSpec<'a> {
    /// Name of the device.
    pub name: &'a str,
    /// Architecture, such as `sm_80`.
    pub arch: Cow<'static, str>,
    /// Multiprocessors.
    pub sms: f64,
    /// Clock in GHz.
    pub ghz: f64,
    /// Bandwidth of device memory in GB/s.
    pub gb_per_s: f64,
    /// Bytes per clock that L2 delivers to a multiprocessor while all of them read.
    pub l2_bytes_per_clock: f64,
    /// Rate of 4-bit integers; `None` from sm_90 on.
    pub s4: Option<f64>,
    /// Rate of 8-bit integers.
    pub s8: f64,
    /// Rate of BF16 with f32 accumulation.
    pub bf16: f64,
    /// Share of the densest rate (that of wgmma) that `mma.sync` reaches. The three rates above are
    /// those of `mma.sync`.
    pub mma_share: f64,
}

/// Share of the data sheet's rate, that of wgmma, that `mma.sync` reaches on sm_90 on average.
///
/// Source: Luo et al., "Dissecting the NVIDIA Hopper Architecture through Microbenchmarking and
/// Multiple Level Analysis", arXiv:2501.12084, section 6.2.
pub const MMA_SYNC_SHARE_SM90: f64 = 0.629;

/// 5120 bytes per clock for 108 multiprocessors ("NVIDIA A100 Tensor Core GPU Architecture").
const L2_A100: f64 = 47.0;
/// An H100 delivers 25 to 32 bytes per clock to each multiprocessor, less than an A100. NVIDIA
/// publishes no figure. It is to be measured with a copy within L2.
const L2_H100: f64 = 28.0;

/// Returns the bytes per clock that L2 delivers to a multiprocessor, by compute capability.
pub fn l2_bytes_per_clock(major: i32) -> f64 {
    if major == 9 { L2_H100 } else { L2_A100 }
}

/// The devices that times are predicted for.
///
/// Multiprocessors, boost clocks, bandwidths and dense rates are those of the documents named at
/// each device. A rate is the document's divided by multiprocessors and clock (A100: 312 TFLOPS /
/// 108 / 1.41 GHz = 2048). GeForce devices run BF16 with f32 accumulation at half rate. The
/// documents were read as quoted by others; a figure that was not found is marked. The bandwidth of
/// L2 was found for the A100 only, and the other devices below sm_90 have its figure.
pub const DEVICES: &[DeviceSpec<'static>] = &[
    // "NVIDIA A100 Tensor Core GPU Architecture" (1410 MHz; BF16 312 TFLOPS, INT8 624, INT4 1248
    // TOPS) and the data sheet "NVIDIA A100 Tensor Core GPU" (2,039 GB/s).
    DeviceSpec {
        name: "A100-SXM-80GB",
        arch: Cow::Borrowed("sm_80"),
        sms: 108.0,
        ghz: 1.41,
        gb_per_s: 2039.0,
        l2_bytes_per_clock: L2_A100,
        s4: Some(8192.0),
        s8: 4096.0,
        bf16: 2048.0,
        mma_share: 1.0,
    },
    // "NVIDIA Ampere GA102 GPU Architecture" V2.0, appendix A (16-bit with FP32 accumulate 71
    // TFLOPS, INT8 284 TOPS). The rate of INT4 is twice that of INT8, as in the data sheet "NVIDIA
    // A40" of the same chip (299.3 and 598.7 TOPS).
    DeviceSpec {
        name: "RTX 3090",
        arch: Cow::Borrowed("sm_86"),
        sms: 82.0,
        ghz: 1.695,
        gb_per_s: 936.0,
        l2_bytes_per_clock: L2_A100,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 512.0,
        mma_share: 1.0,
    },
    // The same document, table 3 (84 SMs, 768 GB/s, BF16 154.8 TFLOPS, INT8 309.7 TOPS; INT4 619.3
    // TOPS as quoted by others).
    DeviceSpec {
        name: "RTX A6000",
        arch: Cow::Borrowed("sm_86"),
        sms: 84.0,
        ghz: 1.80,
        gb_per_s: 768.0,
        l2_bytes_per_clock: L2_A100,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 1024.0,
        mma_share: 1.0,
    },
    // "NVIDIA Ada GPU Architecture", appendix A (128 SMs, 2520 MHz, 1008 GB/s, BF16 with FP32
    // accumulate 165.2 TFLOPS, INT8 660.6 TOPS). The rate of INT4 was not found and is the least
    // certain figure of this table: lists of hardware have twice that of INT8, while the data sheet
    // "NVIDIA L40S" gives another Ada chip the same rate for both.
    DeviceSpec {
        name: "RTX 4090",
        arch: Cow::Borrowed("sm_89"),
        sms: 128.0,
        ghz: 2.52,
        gb_per_s: 1008.0,
        l2_bytes_per_clock: L2_A100,
        s4: Some(4096.0),
        s8: 2048.0,
        bf16: 512.0,
        mma_share: 1.0,
    },
    // "NVIDIA Jetson AGX Orin Series Technical Brief" and the data sheet DS-10662-001 (16 SMs, 1.3
    // GHz, 204.8 GB/s, 170 sparse INT8 TOPS on the GPU, which is 85 dense). The rates of BF16 and
    // INT4 were not found: they are those of the A100, which has the same rate of INT8.
    DeviceSpec {
        name: "Jetson AGX Orin 64GB",
        arch: Cow::Borrowed("sm_87"),
        sms: 16.0,
        ghz: 1.3,
        gb_per_s: 204.8,
        l2_bytes_per_clock: L2_A100,
        s4: Some(8192.0),
        s8: 4096.0,
        bf16: 2048.0,
        mma_share: 1.0,
    },
    // "NVIDIA H100 Tensor Core GPU Architecture", table 3 (132 SMs, 1830 MHz for tensor cores, 3352
    // GB/s, BF16 989.4 TFLOPS, INT8 1978.9 TOPS).
    DeviceSpec {
        name: "H100-SXM",
        arch: Cow::Borrowed("sm_90"),
        sms: 132.0,
        ghz: 1.83,
        gb_per_s: 3352.0,
        l2_bytes_per_clock: L2_H100,
        s4: None,
        s8: MMA_SYNC_SHARE_SM90 * 8192.0,
        bf16: MMA_SYNC_SHARE_SM90 * 4096.0,
        mma_share: MMA_SYNC_SHARE_SM90,
    },
];

/// Rates of `mma.sync`: dense operations of a multiprocessor per clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MmaRates {
    /// Rate of 4-bit integers, where the architecture has them.
    pub s4: Option<f64>,
    /// Rate of 8-bit integers.
    pub s8: f64,
    /// Rate of BF16 with f32 accumulation.
    pub bf16: f64,
}

impl MmaRates {
    /// Returns the rates of a device by compute capability and name, or `None` if the model does
    /// not know them.
    pub fn of(major: i32, minor: i32, name: &str) -> Option<Self> {
        let (s4, s8, bf16) = match (major, minor) {
            (8, 0 | 7) => (Some(8192.0), 4096.0, 2048.0),
            (8, 6 | 9) if name.contains("GeForce") => (Some(4096.0), 2048.0, 512.0),
            (8, 6 | 9) => (Some(4096.0), 2048.0, 1024.0),
            (9, _) => (
                None,
                MMA_SYNC_SHARE_SM90 * 8192.0,
                MMA_SYNC_SHARE_SM90 * 4096.0,
            ),
            _ => return None,
        };
        Some(Self { s4, s8, bf16 })
    }
}

impl DeviceSpec<'_> {
    /// Returns the rate of `mma.sync` for an operand type: dense operations of a multiprocessor per
    /// clock.
    pub fn rate(&self, mma: Mma) -> f64 {
        match mma {
            Mma::S4 => self.s4.unwrap_or(self.s8),
            Mma::S8 => self.s8,
            _ => self.bf16,
        }
    }

    /// Returns the f32 operations of a multiprocessor per clock.
    pub fn f32_lanes(&self) -> f64 {
        if self.arch == "sm_80" { 64.0 } else { 128.0 }
    }

    /// Returns the operand type that the device's kernels use for activations of a width.
    pub fn mma(&self, width: Width) -> Mma {
        match width {
            Width::A2 | Width::A4 if self.s4.is_some() => Mma::S4,
            Width::Bf16 => Mma::Bf16,
            _ => Mma::S8,
        }
    }

    /// Returns the device as the library's kernel table identifies it.
    ///
    /// `wgmma`: whether the kernels for wgmma may be chosen on sm_90.
    pub fn table_key(&self, wgmma: bool) -> w4ax::cuda::DeviceProps {
        let number = self.arch.trim_start_matches("sm_").parse().unwrap_or(80);
        w4ax::cuda::DeviceProps {
            capability: (number / 10, number % 10),
            wgmma: wgmma && number == 90,
            multiprocessors: self.sms as u32,
        }
    }
}
