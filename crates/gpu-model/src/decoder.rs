//! The load: the linear layers of a Llama decoder, one after the other, at a fixed or a latched width.
//!
//! What stands between them in a model is left out: attention gives back its queries, the gate lets half of its input
//! through. So a step is GEMMs and nothing else, each on the result of the one before.

use std::sync::Arc;

use half::bf16;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::cuda::cudarc::driver::{CudaSlice, CudaStream, DevicePtrMut};
use w4ax::cuda::{
    CudaStep, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, GemmOptions, Gpu, WidthSource,
    Workspace,
};
use w4ax::{Error, Grouping, MatRef, PackedWeight, Result, Scales};

/// A stack's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub hidden: usize,
    pub mlp: usize,
    pub layers: usize,
    /// Layers that have weights of their own; the others use them again.
    pub distinct: usize,
    pub grouping: Grouping,
    /// Tokens of the prefill; 0: none.
    pub prefill: usize,
    /// Tokens of the decode, one after the other.
    pub decode: usize,
    /// Each GEMM may start while the one before it still runs. Not within a conditional graph body.
    pub pdl: bool,
}

impl Sizes {
    /// Llama-2-7B, OpenVLA's backbone: the decode of one token.
    #[allow(dead_code)] // The tests have smaller ones.
    pub const LLAMA_2_7B: Self = Self {
        hidden: 4096,
        mlp: 11008,
        layers: 32,
        // 4 x 101 MB: far more than a cache holds.
        distinct: 4,
        grouping: Grouping::G128,
        prefill: 0,
        decode: 1,
        pdl: false,
    };

    /// `[N, K]` of a layer's weights: q, k and v; o; gate and up; down.
    pub fn shapes(&self) -> [(usize, usize); 4] {
        let (h, mlp) = (self.hidden, self.mlp);
        [(3 * h, h), (h, h), (2 * mlp, h), (h, mlp)]
    }
}

struct Layer([DeviceWeight; 4]);

/// Device memory by its address: what is captured holds nothing else. The slices beside it own it.
#[derive(Clone, Copy)]
struct Rows {
    address: u64,
    rows: usize,
    /// Elements from row to row.
    stride: usize,
}

/// Where a run of tokens through the layers has its results.
struct Buffers {
    /// What a layer begins with, and ends with.
    x: CudaSlice<bf16>,
    /// Between attention and MLP.
    middle: CudaSlice<bf16>,
    qkv: CudaSlice<bf16>,
    gate_up: CudaSlice<bf16>,
    rows: usize,
}

struct Addresses {
    x: Rows,
    middle: Rows,
    qkv: Rows,
    gate_up: Rows,
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, sizes: &Sizes, rows: usize) -> Result<Self> {
        let zeros = |len: usize| stream.alloc_zeros::<bf16>(len.max(1)).map_err(failed);
        let (h, mlp) = (sizes.hidden, sizes.mlp);
        Ok(Self {
            x: zeros(rows * h)?,
            middle: zeros(rows * h)?,
            qkv: zeros(rows * 3 * h)?,
            gate_up: zeros(rows * 2 * mlp)?,
            rows,
        })
    }

    fn addresses(&mut self, stream: &CudaStream, sizes: &Sizes) -> Addresses {
        let (h, mlp, rows) = (sizes.hidden, sizes.mlp, self.rows);
        let of = |slice: &mut CudaSlice<bf16>, stride| Rows {
            address: slice.device_ptr_mut(stream).0,
            rows,
            stride,
        };
        Addresses {
            x: of(&mut self.x, h),
            middle: of(&mut self.middle, h),
            qkv: of(&mut self.qkv, 3 * h),
            gate_up: of(&mut self.gate_up, 2 * mlp),
        }
    }
}

/// The step.
pub struct Stack {
    gpu: Gpu,
    sizes: Sizes,
    layers: Vec<Layer>,
    prefill: Buffers,
    decode: Buffers,
    prefill_at: Addresses,
    decode_at: Addresses,
    workspace: Workspace,
}

fn failed(error: w4ax::cuda::cudarc::driver::DriverError) -> Error {
    Error::Cuda {
        call: "the stack's memory",
        reason: error.to_string(),
    }
}

/// Random weights whose product with random activations has about their size.
fn weight(
    rng: &mut ChaCha8Rng,
    (n, k): (usize, usize),
    grouping: Grouping,
) -> Result<PackedWeight> {
    let mut q = vec![0u8; n * k];
    rng.fill_bytes(&mut q);
    let q: Vec<i8> = q.into_iter().map(|b| (b & 15) as i8 - 8).collect();
    // The variance of a 4-bit integer is 21.25.
    let scale = bf16::from_f32(1.0 / (21.25 * k as f32).sqrt());
    let scales = Scales::Bf16(vec![scale; n * grouping.groups(k)]);
    PackedWeight::from_quantized(MatRef::new(&q, n, k)?, grouping, &scales, None)
}

impl Stack {
    pub fn new(gpu: &Gpu, stream: &Arc<CudaStream>, sizes: Sizes) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut layers = Vec::new();
        for _ in 0..sizes.distinct {
            let [a, b, c, d] = sizes
                .shapes()
                .map(|shape| gpu.upload(&weight(&mut rng, shape, sizes.grouping)?));
            layers.push(Layer([a?, b?, c?, d?]));
        }
        let mut prefill = Buffers::new(stream, &sizes, sizes.prefill)?;
        let mut decode = Buffers::new(stream, &sizes, 1)?;
        let workspace = gpu.workspace(stream, sizes.prefill.max(1), sizes.mlp.max(sizes.hidden))?;
        Ok(Self {
            gpu: gpu.clone(),
            prefill_at: prefill.addresses(stream, &sizes),
            decode_at: decode.addresses(stream, &sizes),
            sizes,
            layers,
            prefill,
            decode,
            workspace,
        })
    }

    /// Enqueues tokens through all layers, `times` times, each on the result of the one before.
    fn run(
        &mut self,
        width: WidthSource<'_>,
        stream: &CudaStream,
        prefill: bool,
        times: usize,
    ) -> Result<()> {
        let at = if prefill {
            &self.prefill_at
        } else {
            &self.decode_at
        };
        let gpu = &self.gpu;
        let device = gpu.ordinal();
        let workspace = &mut self.workspace;
        let options = GemmOptions {
            pdl: self.sizes.pdl,
            ..Default::default()
        };
        let mut gemm = |weight: &DeviceWeight, from: Rows, to: Rows| {
            // SAFETY: buffers of this stack, which only this stream uses, in its order; x and y are never the same one.
            let (x, mut y) = unsafe {
                (
                    DeviceMatRef::from_raw(
                        device,
                        from.address,
                        from.rows,
                        weight.k(),
                        from.stride,
                    ),
                    DeviceMatMut::from_raw(device, to.address, to.rows, weight.n(), to.stride),
                )
            };
            let gemm = Gemm::new(&x, weight, width).options(options);
            gpu.gemm(stream, &gemm, &mut y, workspace)
        };
        for layer in 0..times * self.sizes.layers {
            let Layer([qkv, o, gate_up, down]) = &self.layers[layer % self.layers.len()];
            gemm(qkv, at.x, at.qkv)?;
            // Attention: the queries, which are the first third of each row.
            gemm(o, at.qkv, at.middle)?;
            gemm(gate_up, at.middle, at.gate_up)?;
            // The gate: the first half of each row.
            gemm(down, at.gate_up, at.x)?;
        }
        Ok(())
    }

    /// What the prefill begins with, and where it leaves its result.
    #[allow(dead_code)] // The tests load both.
    pub fn prefilled(&mut self) -> &mut CudaSlice<bf16> {
        &mut self.prefill.x
    }

    /// The results of the step: of the prefill, and of the last token.
    #[allow(dead_code)] // The bench looks at times only.
    pub fn results(&self, stream: &Arc<CudaStream>) -> Result<[Vec<bf16>; 2]> {
        let of = |buffers: &Buffers| stream.clone_dtoh(&buffers.x).map_err(failed);
        let results = [of(&self.prefill)?, of(&self.decode)?];
        stream.synchronize().map_err(failed)?;
        Ok(results)
    }
}

// SAFETY: it allocates when it is made, and never again.
unsafe impl CudaStep for Stack {
    /// The seed of random activations.
    type Observation = u64;

    fn load(&mut self, seed: &u64, stream: &Arc<CudaStream>) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(*seed);
        for x in [&mut self.prefill.x, &mut self.decode.x] {
            let values: Vec<bf16> = (0..x.len())
                .map(|_| bf16::from_f32(rng.random_range(-1.5..1.5)))
                .collect();
            stream.memcpy_htod(&values, x).map_err(failed)?;
        }
        Ok(())
    }

    fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        if self.sizes.prefill == 0 {
            return Ok(());
        }
        self.run(width, stream, true, 1)
    }

    fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        self.run(width, stream, false, self.sizes.decode)
    }
}
