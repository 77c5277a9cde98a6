//! The instruction sets of the CPU.

use half::bf16;
use w4ax::cpu::{Cpu, Isa, Rayon, Serial};
use w4ax::{Gemm, MatMut, Result, Width};

use super::Checker;
use super::case::Case;
use super::report::CheckedPath;

/// Checks every instruction set that the library has code for.
pub fn check(checker: &mut Checker<'_>) -> Vec<CheckedPath> {
    Isa::ALL.map(|isa| check_isa(checker, isa)).into()
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
