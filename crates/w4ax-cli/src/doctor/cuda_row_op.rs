//! The row operations on a device whose results are quantized at once, and the GEMMs after them.

use half::bf16;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceVecRef, Gemm, RmsNorm, SiluMul};
use w4ax::{Result, Scheme, Width};

use super::Checker;
use super::case::{Case, RowOperation};
use super::cuda::{Device, failed};
use super::report::CheckedPath;

/// Checks both operations at each quantized width.
pub fn check(checker: &mut Checker<'_>, device: &Device, name: &str) -> Vec<CheckedPath> {
    let check = |(op, op_name): (RowOperation, &str)| {
        let name = format!("{name} {op_name}");
        let widths = [Width::A2, Width::A4, Width::A8];
        // The operations compute rows in the order of the matrix.
        let takes = |_, case: &Case| {
            case.weight.order().is_none() && case.weight.scheme() == Scheme::Grouped
        };
        checker.path(name, widths, takes, |width, case, fault| {
            let mut y = gemm_of_rows(device, op, width, case)?;
            fault(&mut y);
            Ok(case.row_difference(op, width, &y))
        })
    };
    RowOperation::ALL.map(check).into()
}

/// `[m, n]`.
fn gemm_of_rows(
    Device { gpu, stream }: &Device,
    op: RowOperation,
    width: Width,
    case: &Case,
) -> Result<Vec<bf16>> {
    let (m, n, k) = (case.m, case.weight.n(), case.weight.k());
    let rows: Vec<bf16> = (0..m)
        .flat_map(|token| case.x().row(token).to_vec())
        .collect();
    let copied = |host: &[bf16]| stream.clone_htod(host).map_err(failed("copying x"));
    let (x, norm) = (copied(&rows)?, copied(case.norm())?);
    let bias = (case.bias.as_ref())
        .map(|bias| stream.clone_htod(bias).map_err(failed("copying the bias")))
        .transpose()?;
    let mut y = copied(&vec![bf16::from_bits(0xDEAD); m * n])?;
    let weight = gpu.upload(&case.weight)?;
    let mut workspace = gpu.workspace(stream, m, k)?;
    let mut to = gpu.quantized_activations(stream, m, k)?;
    {
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let norm = DeviceVecRef::new(norm.as_view(), k)?;
        let bias = (bias.as_ref())
            .map(|bias| DeviceVecRef::new(bias.as_view(), n))
            .transpose()?;
        let groups = case.weight.grouping();
        match op {
            RowOperation::RmsNorm => {
                let norm = RmsNorm::new(&x, &norm, Case::EPS);
                gpu.rms_norm_quantize(stream, &norm, width, groups, &mut to, None)?;
            }
            RowOperation::SiluMul => {
                let silu = SiluMul::new(&x, &x);
                gpu.silu_mul_quantize(stream, &silu, width, groups, &mut to, None)?;
            }
        }
        let gemm = Gemm::quantized(&to, &weight)?.bias(bias.as_ref());
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        gpu.run(stream, &gemm, &mut y, &mut workspace)?;
    }
    let y = stream.clone_dtoh(&y).map_err(failed("copying y"))?;
    stream.synchronize().map_err(failed("waiting for y"))?;
    Ok(y)
}
