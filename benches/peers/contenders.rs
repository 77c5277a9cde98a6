//! The contenders: w4ax's GEMM at a width, candle's product of a kind, and plain reads. Each cycles
//! through a ring of weights.

use std::borrow::Cow;
use std::hint::black_box;
use std::rc::Rc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};
use half::bf16;
use rayon::prelude::*;
use w4ax::cpu::Cpu;
use w4ax::{Gemm, Grouping, MatMut, MatRef, PackedWeight, Quantize, Width};

use crate::{Result, limits};

/// Names and kinds of candle's quantized products.
pub const PEERS: [(&str, GgmlDType); 3] = [
    ("candle Q4_0", GgmlDType::Q4_0),
    ("candle Q4_K", GgmlDType::Q4K),
    ("candle Q8_0", GgmlDType::Q8_0),
];

/// Weights of one shape that calls use in turn. A ring may have one weight.
pub type Ring<Weight> = Rc<[Weight]>;

/// A product that can be called repeatedly.
pub struct Contender {
    pub name: String,
    pub call: Box<dyn FnMut() -> Result<()>>,
}

/// Returns numbers around zero that are the same in every run.
pub fn values(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5)
        .collect()
}

/// Packs a weight `[n, k]` in groups of 128.
pub fn pack(plain: &[f32], n: usize, k: usize) -> Result<PackedWeight> {
    Ok(Quantize::new(Grouping::G128).pack(MatRef::new(plain, n, k)?)?)
}

/// Quantizes a weight `[n, k]` to one of candle's kinds.
pub fn quantize(plain: &[f32], n: usize, k: usize, kind: GgmlDType) -> Result<QTensor> {
    let tensor = Tensor::from_slice(plain, (n, k), &Device::Cpu)?;
    Ok(QTensor::quantize(&tensor, kind)?)
}

/// Returns copies of a weight that take at least `bytes` bytes together; at least one copy.
pub fn ring(weight: &PackedWeight, bytes: usize) -> Ring<PackedWeight> {
    let copies = bytes.div_ceil(weight.packed_bytes()).max(1);
    vec![weight.clone(); copies].into()
}

/// Returns copies of candle's weight that take at least `bytes` bytes together; at least one copy.
/// candle's first call on each weight allocates a repacked copy, which is not counted.
pub fn peer_ring(weight: &QTensor, bytes: usize) -> Result<Ring<QMatMul>> {
    let data = weight.data()?;
    let copies = bytes.div_ceil(data.len()).max(1);
    let copy = |_| -> Result<QMatMul> {
        let storage = QStorage::from_data(Cow::Borrowed(&data), &Device::Cpu, weight.dtype())?;
        Ok(QMatMul::from_qtensor(QTensor::new(
            storage,
            weight.shape(),
        )?)?)
    };
    (0..copies).map(copy).collect()
}

/// Returns w4ax's GEMM of `m` tokens.
pub fn ours(cpu: &Cpu, ring: &Ring<PackedWeight>, width: Width, m: usize) -> Contender {
    let (cpu, ring) = (cpu.clone(), ring.clone());
    let (n, k) = (ring[0].n(), ring[0].k());
    let x: Vec<bf16> = values(m * k).into_iter().map(bf16::from_f32).collect();
    let mut y = vec![bf16::ZERO; m * n];
    let mut workspace = cpu.workspace(m, k).unwrap();
    let mut next = 0;
    let call = move || {
        let x = MatRef::new(black_box(&x), m, k)?;
        let y = MatMut::new(&mut y, m, n)?;
        cpu.run(&Gemm::new(x, &ring[next], width), y, &mut workspace)?;
        next = (next + 1) % ring.len();
        Ok(())
    };
    Contender {
        name: width.to_string(),
        call: Box::new(call),
    }
}

/// Returns a read of the weights' tiles and scales by all threads. Each thread reads from `streams`
/// places at once.
pub fn read(ring: &Ring<PackedWeight>, streams: usize) -> Contender {
    let ring = ring.clone();
    let threads = rayon::current_num_threads();
    let mut next = 0;
    let call = move || {
        let weight = &ring[next];
        let tiles: &[u64] = bytemuck::cast_slice(weight.tiles());
        let parts = tiles.par_chunks(tiles.len().div_ceil(threads));
        let sum = parts
            .map(|part| limits::sum(part, streams))
            .reduce(|| 0, u64::wrapping_add);
        let scales = weight.tiled_scales().bytes().iter();
        black_box((sum, scales.fold(0u8, |sum, byte| sum.wrapping_add(*byte))));
        next = (next + 1) % ring.len();
        Ok(())
    };
    Contender {
        name: format!("read from {streams}"),
        call: Box::new(call),
    }
}

/// Returns candle's product of `m` tokens.
pub fn theirs(name: &str, ring: &Ring<QMatMul>, k: usize, m: usize) -> Result<Contender> {
    let ring = ring.clone();
    let x = Tensor::from_vec(values(m * k), (m, k), &Device::Cpu)?;
    let mut next = 0;
    let call = move || {
        black_box(ring[next].forward(black_box(&x))?);
        next = (next + 1) % ring.len();
        Ok(())
    };
    Ok(Contender {
        name: name.into(),
        call: Box::new(call),
    })
}
