//! What the static model assumes of a device: bandwidths of memory and L2, and the cost of a
//! launch.
//!
//! A bandwidth of L2 is a slope: the difference of two amounts of bytes divided by that of their
//! times, so that launches and latencies do not count.

use cudarc::driver::DevicePtr;
use cudarc::driver::result::memcpy_dtod_async;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use gpu_model::layers::repeated_weights;
use gpu_model::report::Measurement;
use gpu_model::traffic::weight_bytes;
use serde::Serialize;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, GemmOptions, cudarc};
use w4ax::{Grouping, Scheme, Width};

use crate::measure::{Bench, Result};
use crate::output::{Output, table};

/// Inputs of the GEMMs that read their weight from L2.
const K: usize = 4096;
/// Calls of a graph.
const CALLS: usize = 64;

/// The measured limits of a device.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Copy within device memory, bytes read and written.
    pub copy_gb_per_s: f64,
    /// Copy within L2, bytes read and written.
    pub l2_copy_gb_per_s: f64,
    /// Weights of a GEMM of one token that stay in L2.
    pub l2_gb_per_s: f64,
    /// The same, per multiprocessor and clock at the highest clock.
    pub l2_bytes_a_clock_and_sm: f64,
    /// Time of the smallest GEMM in a graph, after the end of the previous one.
    pub launch_us: f64,
    /// The same with programmatic dependent launch.
    pub dependent_launch_us: f64,
}

#[derive(Serialize)]
struct Report {
    limits: Limits,
    copy_gb_per_s: f64,
}

impl Bench {
    /// Measures calls of one token on one weight in one graph.
    fn same_weight(&self, weight: &DeviceWeight, width: Width, pdl: bool) -> Result<Measurement> {
        let (gpu, stream) = (&self.gpu, &self.stream);
        let x = self.activations(weight.k())?;
        let mut y = stream.alloc_zeros(weight.n())?;
        let mut workspace = gpu.workspace(stream, 1, weight.k())?;
        let x = DeviceMatRef::new(x.as_view(), 1, weight.k())?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), 1, weight.n())?;
        self.replay(CALLS, || {
            let options = GemmOptions::default().with_pdl(pdl);
            let gemm = Gemm::new(&x, weight, width).options(options);
            (0..CALLS).try_for_each(|_| Ok(gpu.run(stream, &gemm, &mut y, &mut workspace)?))
        })
    }

    /// Returns the bandwidth of weights in L2 in GB/s.
    fn l2_of_weights(&self) -> Result<f64> {
        let grouping = Grouping::PerChannel;
        let sms = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
        // As many rows as fill each multiprocessor alike: the smaller weight takes about a quarter
        // of the cache, the larger one half.
        let unit = 16 * sms;
        let units =
            |bytes: usize| bytes / weight_bytes((unit, K), Scheme::Grouped, grouping) as usize;
        let small = units(self.l2_bytes() / 4).max(1);
        let large = units(self.l2_bytes() / 2).max(small + 1);
        let time = |units: usize| -> Result<(f64, f64)> {
            let shape = (unit * units, K);
            let weights = repeated_weights(&self.gpu, shape, (Scheme::Grouped, grouping), 1)?;
            let us = self.same_weight(&weights[0], Width::A4, false)?.median_us;
            Ok((weight_bytes(shape, Scheme::Grouped, grouping), us))
        };
        Ok(slope(time(small)?, time(large)?))
    }

    /// Returns the bandwidth of copies within L2 in GB/s, bytes read and written.
    fn l2_of_copies(&self) -> Result<f64> {
        let time = |bytes: usize| -> Result<(f64, f64)> {
            let from = self.stream.alloc_zeros::<u8>(bytes)?;
            let to = self.stream.alloc_zeros::<u8>(bytes)?;
            // Before the capture, which must not wait for events of earlier work.
            let (from_at, to_at) = (
                from.device_ptr(&self.stream).0,
                to.device_ptr(&self.stream).0,
            );
            let times = self.replay(CALLS, || {
                (0..CALLS).try_for_each(|_| {
                    // SAFETY: both allocations have `bytes` bytes, and live until the replays have
                    // ended.
                    let copied = unsafe {
                        memcpy_dtod_async(to_at, from_at, bytes, self.stream.cu_stream())
                    };
                    Ok(copied?)
                })
            })?;
            drop((from, to));
            Ok((2.0 * bytes as f64, times.median_us))
        };
        // Source and target take a quarter and half of the cache.
        let quarter = time(self.l2_bytes() / 8)?;
        Ok(slope(quarter, time(self.l2_bytes() / 4)?))
    }

    /// Measures the limits of the device.
    pub fn limits(&self) -> Result<Limits> {
        let device = self.device();
        let kind = (Scheme::Grouped, Grouping::PerChannel);
        let smallest = repeated_weights(&self.gpu, (16, 64), kind, 1)?;
        let launch = |pdl| self.same_weight(&smallest[0], Width::A4, pdl);
        let l2_gb_per_s = self.l2_of_weights()?;
        Ok(Limits {
            copy_gb_per_s: self.copy_gb_per_s(),
            l2_copy_gb_per_s: self.l2_of_copies()?,
            l2_gb_per_s,
            l2_bytes_a_clock_and_sm: l2_gb_per_s / device.ghz / device.sms,
            launch_us: launch(false)?.median_us,
            dependent_launch_us: launch(true)?.median_us,
        })
    }
}

/// Returns GB/s from two pairs of bytes and microseconds; NaN (null in the report) if the larger
/// amount takes no more time.
fn slope((bytes, us): (f64, f64), (more_bytes, more_us): (f64, f64)) -> f64 {
    if more_us > us {
        (more_bytes - bytes) / (more_us - us) / 1e3
    } else {
        f64::NAN
    }
}

impl Limits {
    /// Returns the limits as lines of the short table's notes.
    pub fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "copy {:.0} GB/s; L2: copy {:.0} GB/s, weights {:.0} GB/s, {:.1} bytes a clock and SM",
                self.copy_gb_per_s,
                self.l2_copy_gb_per_s,
                self.l2_gb_per_s,
                self.l2_bytes_a_clock_and_sm
            ),
            format!(
                "smallest GEMM in a graph: {:.2} us, {:.2} us with dependent launch",
                self.launch_us, self.dependent_launch_us
            ),
        ]
    }
}

/// Measures the limits only.
pub fn run(bench: &Bench, output: &mut Output) -> Result<()> {
    let limits = bench.limits()?;
    output.set(&Report {
        limits,
        copy_gb_per_s: limits.copy_gb_per_s,
    })?;
    let row = |what: &str, value: f64, unit: &str, assumed: &str| {
        vec![
            what.to_owned(),
            format!("{value:.2}"),
            unit.to_owned(),
            assumed.to_owned(),
        ]
    };
    let rows = vec![
        row("copy", limits.copy_gb_per_s, "GB/s", "data sheet"),
        row("copy within L2", limits.l2_copy_gb_per_s, "GB/s", "-"),
        row("weights from L2", limits.l2_gb_per_s, "GB/s", "-"),
        row(
            "weights from L2",
            limits.l2_bytes_a_clock_and_sm,
            "bytes a clock and SM",
            "see predict.rs",
        ),
        row("smallest GEMM", limits.launch_us, "us", "1.5 + 0.7 us"),
        row(
            "smallest GEMM, dependent",
            limits.dependent_launch_us,
            "us",
            "-",
        ),
    ];
    let header = ["what", "measured", "unit", "the model assumes"];
    output.print_last(&table(&header, 4, rows), &[]);
    Ok(())
}
