//! GEMMs on the CPU from C and C++: bit for bit the results of the scalar reference.

use std::io::Write;
use std::path::{Path, PathBuf};

use rand::Rng;
use test_support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::{Grouping, MatRef, ScaleType, Width, reference};
use w4ax_capi::enums::CEnum;

use crate::program::{BUILDS, Language, Link, Program, run, source};

/// Writes a case for `gemm.c`: a random weight, random activations, and the reference's result.
fn write_case(
    path: &Path,
    seed: u64,
    (m, n, k): (usize, usize, usize),
    grouping: Grouping,
    scale_type: ScaleType,
    width: Width,
) {
    let mut rng = rng(seed);
    let (symmetric, has_bias) = (seed.is_multiple_of(2), !seed.is_multiple_of(3));
    let plain = PlainWeight::random(&mut rng, (n, k), grouping, scale_type, symmetric);
    let (x_stride, y_stride) = (
        k + rng.random_range(0..9usize),
        n + rng.random_range(0..9usize),
    );
    let kind = Kind::ALL[seed as usize % Kind::ALL.len()];
    let x = kind.fill(&mut rng, (m - 1) * x_stride + k);
    let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-1f32..1.0)).collect();
    let bias = has_bias.then_some(bias);
    let view = MatRef::with_stride(&x, m, k, x_stride).unwrap();
    let y = reference::gemm(view, &plain.pack(), width, bias.as_deref()).unwrap();

    let header = [
        n as u32,
        k as u32,
        m as u32,
        grouping.number(),
        u32::from(symmetric),
        scale_type.number(),
        width.number(),
        x_stride as u32,
        y_stride as u32,
        u32::from(has_bias),
    ];
    let mut file = std::fs::File::create(path).unwrap();
    for bytes in [
        bytemuck::cast_slice(&header),
        bytemuck::cast_slice(&plain.q),
        plain.scales.bytes(),
        bytemuck::cast_slice(plain.zeros.as_deref().unwrap_or(&[])),
        bytemuck::cast_slice(&x),
        bytemuck::cast_slice(bias.as_deref().unwrap_or(&[])),
        bytemuck::cast_slice(&bits(&y)),
    ] {
        file.write_all(bytes).unwrap();
    }
}

/// Writes case files of 2, 4 and 8 bits, which are bit-exact on every path. `gemm.c` checks BF16 on
/// integers of its own, whose sums are exact.
pub fn write_cases(folder: &Path) -> Vec<PathBuf> {
    let scale_types = [ScaleType::F32, ScaleType::F16, ScaleType::Bf16];
    let mut paths = Vec::new();
    for (i, width) in WIDTHS[..3].iter().enumerate() {
        for (j, grouping) in Grouping::ALL.into_iter().enumerate() {
            let shape = [(1, 100, 300), (7, 33, 129), (3, 70, 64), (17, 16, 100)][(i + j) % 4];
            let path = folder.join(format!("{width}.{grouping}"));
            let seed = (4 * i + j) as u64;
            write_case(&path, seed, shape, grouping, scale_types[j % 3], *width);
            paths.push(path);
        }
    }
    paths
}

#[test]
fn matches_reference_in_c_and_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let cases = write_cases(folder.path());
    for (language, link) in BUILDS {
        let program = Program::build(&source("gemm.c"), language, link, &[]);
        run(program.command(&[]).arg(program.folder.path()).args(&cases));
    }
}

#[test]
fn finds_a_wrong_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case");
    let (shape, grouping) = ((3, 33, 100), Grouping::G32);
    write_case(&path, 5, shape, grouping, ScaleType::F16, Width::A4);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.iter_mut().nth_back(1).unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let program = Program::build(&source("gemm.c"), Language::C99, Link::Shared, &[]);
    let mut command = program.command(&[]);
    let output = command.arg(program.folder.path()).arg(&path).output();
    let output = output.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("scalar: m 3 n 33 k 100 grouping 32 width 4: 1 wrong values"),
        "{errors}"
    );
}
