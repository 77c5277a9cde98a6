//! The instruction sets of the CPU.

use half::bf16;
use w4ax::cpu::{Cpu, Isa, Rayon, Serial};
use w4ax::{Gemm, MatMut, MatRef, Result, Width};

use super::Checker;
use super::case::{Case, RowOperation};
use super::report::CheckedPath;

/// Checks every instruction set that the library has code for.
pub fn check(checker: &mut Checker<'_>) -> Vec<CheckedPath> {
    let mut paths: Vec<CheckedPath> = Isa::ALL.map(|isa| check_isa(checker, isa)).into();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        paths.extend(RowOperation::ALL.map(|op| check_row_operation(checker, isa, op)));
    }
    paths
}

/// Checks a row operation whose result is quantized at once, and the GEMM after it.
fn check_row_operation(
    checker: &mut Checker<'_>,
    isa: Isa,
    (op, op_name): (RowOperation, &str),
) -> CheckedPath {
    let name = format!("cpu {} {op_name}", isa.name());
    let cpu = match Cpu::with_isa(isa) {
        Ok(cpu) => cpu,
        Err(error) => return CheckedPath::not_available(name, error.to_string()),
    };
    let takes = |_, _: &Case| true;
    checker.path(name, Width::ALL, takes, |width, case, fault| {
        let mut y = gemm_of_rows(&cpu, op, width, case)?;
        fault(&mut y);
        Ok(case.row_difference(op, width, &y))
    })
}

/// The GEMM of a row operation, `[m, n]`: of its BF16 rows at 16 bits and for a weight with an
/// order of k.
fn gemm_of_rows(cpu: &Cpu, op: RowOperation, width: Width, case: &Case) -> Result<Vec<bf16>> {
    let (m, n, k, weight) = (case.m, case.weight.n(), case.weight.k(), &case.weight);
    let mut workspace = cpu.workspace(m, k)?;
    let mut y = vec![bf16::from_bits(0xDEAD); m * n];
    let bias = case.bias.as_deref();
    if width == Width::Bf16 || weight.order().is_some() {
        let mut rows = vec![bf16::from_bits(0xDEAD); m * k];
        let to = MatMut::new(&mut rows, m, k)?;
        match op {
            RowOperation::RmsNorm => cpu.rms_norm(&case.rms_norm(), to)?,
            RowOperation::SiluMul => cpu.silu_mul(&case.silu_mul(), to)?,
        }
        let gemm = Gemm::new(MatRef::new(&rows, m, k)?, weight, width).bias(bias);
        cpu.run(&gemm, MatMut::new(&mut y, m, n)?, &mut workspace)?;
        return Ok(y);
    }
    let mut to = cpu.quantized_activations(m, k)?;
    match op {
        RowOperation::RmsNorm => cpu.rms_norm_quantize(&case.rms_norm(), width, weight, &mut to)?,
        RowOperation::SiluMul => cpu.silu_mul_quantize(&case.silu_mul(), width, weight, &mut to)?,
    }
    cpu.run_quantized(
        &to,
        weight,
        bias,
        MatMut::new(&mut y, m, n)?,
        &mut workspace,
    )?;
    Ok(y)
}

fn check_isa(checker: &mut Checker<'_>, isa: Isa) -> CheckedPath {
    let name = format!("cpu {}", isa.name());
    let cpu = match Cpu::with_isa(isa) {
        Ok(cpu) => cpu,
        Err(error) => return CheckedPath::not_available(name, error.to_string()),
    };
    let pools = [cpu.clone().with_pool(Rayon), cpu.with_pool(Serial)];
    let takes = |_, _: &Case| true;
    checker.path(name, Width::ALL, takes, |width, case, fault| {
        for cpu in &pools {
            let mut y = gemm(cpu, width, case)?;
            fault(&mut y);
            if let Some(difference) = case.difference(width, &y) {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    })
}

/// `[m, n]`.
fn gemm(cpu: &Cpu, width: Width, case: &Case) -> Result<Vec<bf16>> {
    let (m, n) = (case.m, case.weight.n());
    let mut workspace = cpu.workspace(m, case.weight.k())?;
    // A value that no result has: what is not written shows.
    let mut y = vec![bf16::from_bits(0xDEAD); m * n];
    let gemm = Gemm::new(case.x(), &case.weight, width).bias(case.bias.as_deref());
    cpu.run(&gemm, MatMut::new(&mut y, m, n)?, &mut workspace)?;
    Ok(y)
}
