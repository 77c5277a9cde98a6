//! The kernel families on each device.

use std::sync::Arc;

use half::bf16;
use w4ax::cuda::cudarc::driver::{CudaStream, DriverError};
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceVecRef, Family, Gemm, GemmOptions, Gpu,
    Problem, device_count,
};
use w4ax::{Error, Result, Scheme, Width};

use super::Checker;
use super::case::Case;
use super::cuda_row_op;
use super::report::CheckedPath;

/// Where a kernel's quantized activations are from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activations {
    /// The GEMM's kernel quantizes BF16.
    Fused,
    /// A launch before the GEMM quantizes them into the workspace.
    TwoLaunches,
    /// They were quantized by the caller.
    Quantized,
}

impl Activations {
    const ALL: [(Self, &str); 3] = [
        (Self::Fused, "fused"),
        (Self::TwoLaunches, "two launches"),
        (Self::Quantized, "quantized ahead"),
    ];
}

/// Checks every family of kernels on every device.
pub fn check(checker: &mut Checker<'_>) -> Vec<CheckedPath> {
    let count = match device_count() {
        Ok(count) => count,
        Err(error) => return vec![CheckedPath::not_available("cuda", error.to_string())],
    };
    let mut paths = Vec::new();
    for ordinal in 0..count {
        let name = format!("cuda:{ordinal}");
        match Device::new(ordinal) {
            Ok(device) => {
                for family in Family::ALL {
                    paths.extend(check_family(checker, &device, family, &name));
                }
                paths.extend(cuda_row_op::check(checker, &device, &name));
            }
            Err(error) => paths.push(CheckedPath::not_available(name, error.to_string())),
        }
    }
    paths
}

/// A device, and the stream of its checks.
pub(super) struct Device {
    pub(super) gpu: Gpu,
    pub(super) stream: Arc<CudaStream>,
}

impl Device {
    fn new(ordinal: usize) -> Result<Self> {
        let gpu = Gpu::new(ordinal)?;
        let stream = gpu.context().new_stream().map_err(failed("new stream"))?;
        Ok(Self { gpu, stream })
    }
}

fn check_family(
    checker: &mut Checker<'_>,
    device: &Device,
    family: Family,
    name: &str,
) -> Vec<CheckedPath> {
    if !device.gpu.has_family(family) {
        let reason = "the device, or this build, does not have the kernels";
        return vec![CheckedPath::not_available(
            format!("{name} {family}"),
            reason,
        )];
    }
    let check = |(activations, how): (Activations, &str)| {
        let widths = Width::ALL.into_iter();
        let takes = |width, case: &Case| runs(&device.gpu, family, activations, width, case);
        let name = format!("{name} {family} {how}");
        checker.path(name, widths, takes, |width, case, fault| {
            let mut y = gemm(device, family, activations, width, case)?;
            fault(&mut y);
            Ok(match width {
                Width::Bf16 => out_of_bound(case, &y),
                width => case.difference(width, &y),
            })
        })
    };
    let paths = Activations::ALL.map(check).into_iter();
    let any_ran = |path: &CheckedPath| path.checks.iter().any(|check| check.gemms > 0);
    paths.filter(any_ran).collect()
}

/// Whether there is a kernel of the family that runs the case.
fn runs(gpu: &Gpu, family: Family, activations: Activations, width: Width, case: &Case) -> bool {
    // The families have no kernels for two-level weights; the report says so.
    if case.weight.scheme() != Scheme::Grouped {
        return false;
    }
    let quantized = activations == Activations::Quantized;
    let ordered = case.weight.order().is_some();
    let no_layout = width == Width::Bf16 || family.activation_layout().is_none();
    if quantized && (ordered || no_layout) {
        return false;
    }
    let shape = (case.m, case.weight.n(), case.weight.k());
    let problem = Problem::new(shape, width, case.weight.grouping())
        .with_quantized(quantized)
        .with_act_order(ordered)
        .with_options(options(family, activations));
    gpu.plan_problem(&problem).is_ok()
}

fn options(family: Family, activations: Activations) -> GemmOptions {
    GemmOptions::default()
        .with_family(family)
        .with_fused(activations == Activations::Fused)
}

/// `[m, n]`.
fn gemm(
    Device { gpu, stream }: &Device,
    family: Family,
    activations: Activations,
    width: Width,
    case: &Case,
) -> Result<Vec<bf16>> {
    let (m, n, k) = (case.m, case.weight.n(), case.weight.k());
    // The wgmma family reads rows that begin at multiples of 16 bytes.
    let stride = k.next_multiple_of(8);
    let mut rows = vec![bf16::NAN; m * stride];
    for token in 0..m {
        rows[token * stride..][..k].copy_from_slice(case.x().row(token));
    }
    let to_device = |host: &[bf16]| stream.clone_htod(host).map_err(failed("copying x"));
    let (x, mut y) = (
        to_device(&rows)?,
        to_device(&vec![bf16::from_bits(0xDEAD); m * n])?,
    );
    let bias = case.bias.as_ref().map(|bias| stream.clone_htod(bias));
    let bias = bias.transpose().map_err(failed("copying the bias"))?;
    let weight = gpu.upload(&case.weight)?;
    let mut workspace = gpu.workspace(stream, m, k)?;
    {
        let x = DeviceMatRef::with_stride(x.as_view(), m, k, stride)?;
        let bias = bias
            .as_ref()
            .map(|bias| DeviceVecRef::new(bias.as_view(), n));
        let bias = bias.transpose()?;
        let mut quantized = gpu.quantized_activations(stream, m, k)?;
        let gemm = match (activations, family.activation_layout()) {
            (Activations::Quantized, Some(operand)) => {
                let layout = ActivationLayout::new(case.weight.grouping()).with_operand(operand);
                gpu.quantize(stream, &x, width, layout, &mut quantized)?;
                Gemm::quantized(&quantized, &weight)?
            }
            _ => Gemm::new(&x, &weight, width),
        };
        let gemm = gemm
            .bias(bias.as_ref())
            .options(options(family, activations));
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        gpu.run(stream, &gemm, &mut y, &mut workspace)?;
    }
    let y = stream.clone_dtoh(&y).map_err(failed("copying y"))?;
    stream.synchronize().map_err(failed("waiting for y"))?;
    Ok(y)
}

/// The first element of `y[m, n]` beyond the bound of [`w4ax::numerics`] for BF16 activations.
fn out_of_bound(case: &Case, y: &[bf16]) -> Option<String> {
    let (n, k, grouping) = (case.weight.n(), case.weight.k(), case.weight.grouping());
    let dequantized = case.weight.dequantize(); // [n, k]
    let order = grouping.size().unwrap_or(k) as f64 + grouping.groups(k) as f64;
    let wrong = |&at: &usize| {
        let (x, row) = (case.x(), at % n);
        let (mut exact, mut magnitude) = (0f64, 0f64);
        for (w, x) in dequantized[row * k..][..k].iter().zip(x.row(at / n)) {
            let product = f64::from(*w) * x.to_f64();
            exact += product;
            magnitude += product.abs();
        }
        let mut bound = 2f64.powi(-22) * order * magnitude * 1.000_001;
        if let Some(bias) = &case.bias {
            exact += f64::from(bias[row]);
            bound += 2f64.powi(-23) * exact.abs();
        }
        let got = y[at].to_f64();
        if !exact.is_finite() {
            return got.to_bits() != exact.to_bits() && !(got.is_nan() && exact.is_nan());
        }
        // The last rounding, to BF16, is half a step of 2^-7.
        let near = (got - exact).abs() <= bound + got.abs() / 256.0;
        !near
    };
    let at = (0..y.len()).find(wrong)?;
    Some(case.describe(at, y[at], case.reference(Width::Bf16)[at]))
}

pub(super) fn failed(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |source| Error::Driver { call, source }
}
