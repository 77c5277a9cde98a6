//! A control step for GPU tests and benches: the linear layers of a Llama decoder, at a fixed or a
//! latched width.
//!
//! The operations between the linear layers are left out: attention returns its queries, the gate
//! returns the first half of its input. A step consists of GEMMs only, each of which reads the
//! result of the previous one.

use std::sync::Arc;

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::cuda::cudarc::driver::{CudaSlice, CudaStream, DevicePtrMut};
use w4ax::cuda::{
    CudaStep, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, GemmOptions, Gpu, Workspace,
};
use w4ax::{Error, Grouping, Result, Scheme, WidthSource};

use crate::layers::Layers;

/// Sizes of a [`Stack`].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Channels of the residual stream.
    pub hidden: usize,
    /// Channels of the MLP.
    pub mlp: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Layers with weights of their own, where a stack makes its weights. Further layers reuse
    /// these weights.
    pub distinct: usize,
    /// Scheme of the weights.
    pub scheme: Scheme,
    /// Grouping of the weights.
    pub grouping: Grouping,
    /// Tokens of the prefill; 0 for no prefill.
    pub prefill: usize,
    /// Tokens of the decode, which run one after the other.
    pub decode: usize,
    /// Whether a GEMM may start before the previous one ends (programmatic dependent launch). Not
    /// supported within the body of a conditional graph node.
    pub pdl: bool,
}

impl Sizes {
    /// The decode of one token by Llama-2-7B, OpenVLA's backbone.
    pub const LLAMA_2_7B: Self = Self {
        hidden: 4096,
        mlp: 11008,
        layers: 32,
        // 4 x 101 MB exceed every L2 cache.
        distinct: 4,
        scheme: Scheme::Grouped,
        grouping: Grouping::G128,
        prefill: 0,
        decode: 1,
        pdl: false,
    };

    /// Returns `[N, K]` of a layer's weights: q, k and v in one; o; gate and up in one; down.
    pub const fn shapes(&self) -> [(usize, usize); 4] {
        let (h, mlp) = (self.hidden, self.mlp);
        [(3 * h, h), (h, h), (2 * mlp, h), (h, mlp)]
    }
}

/// A matrix in device memory by its address, as a captured graph holds it. [`Buffers`] owns the
/// memory.
#[derive(Clone, Copy)]
struct Rows {
    address: u64,
    rows: usize,
    /// Elements between the starts of two rows.
    stride: usize,
}

/// The activations of one pass of tokens through the layers.
struct Buffers {
    /// Input and output of a layer, `[rows, hidden]`.
    x: CudaSlice<bf16>,
    /// Output of the attention, `[rows, hidden]`.
    middle: CudaSlice<bf16>,
    /// Queries, keys and values, `[rows, 3 * hidden]`.
    qkv: CudaSlice<bf16>,
    /// Gate and up projections, `[rows, 2 * mlp]`.
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

/// The linear layers of a decoder as a step: a prefill, then a decode.
pub struct Stack {
    gpu: Gpu,
    sizes: Sizes,
    layers: Arc<Layers>,
    prefill: Buffers,
    decode: Buffers,
    prefill_at: Addresses,
    decode_at: Addresses,
    workspace: Workspace,
}

fn failed(source: w4ax::cuda::cudarc::driver::DriverError) -> Error {
    Error::Driver {
        call: "memory of the decoder stack",
        source,
    }
}

impl Stack {
    /// Allocates all memory of the step and uploads random weights.
    ///
    /// # Errors
    /// If an allocation fails.
    pub fn new(gpu: &Gpu, stream: &Arc<CudaStream>, sizes: Sizes) -> Result<Self> {
        let kind = (sizes.scheme, sizes.grouping);
        let layers = Layers::random(gpu, sizes.shapes(), kind, sizes.distinct)?;
        Self::with_layers(gpu, stream, sizes, Arc::new(layers))
    }

    /// Allocates the activations of the step, on weights that other steps share.
    ///
    /// # Errors
    /// If an allocation fails.
    pub fn with_layers(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        sizes: Sizes,
        layers: Arc<Layers>,
    ) -> Result<Self> {
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

    /// Enqueues `times` passes of tokens through all layers, each on the result of the previous
    /// one.
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
        let options = GemmOptions::default().with_pdl(self.sizes.pdl);
        let mut gemm = |weight: &DeviceWeight, from: Rows, to: Rows| {
            // SAFETY: the buffers belong to this stack, and only this stream uses them, in order. x
            // and y are different buffers.
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
            gpu.run(stream, &gemm, &mut y, workspace)
        };
        for layer in 0..times * self.sizes.layers {
            let [qkv, o, gate_up, down] = self.layers.layer(layer);
            gemm(qkv, at.x, at.qkv)?;
            // Attention returns its queries, the first third of each row.
            gemm(o, at.qkv, at.middle)?;
            gemm(gate_up, at.middle, at.gate_up)?;
            // The gate returns the first half of each row.
            gemm(down, at.gate_up, at.x)?;
        }
        Ok(())
    }

    /// Returns the buffer of the prefill's input and result, `[prefill, hidden]`.
    pub fn prefilled(&mut self) -> &mut CudaSlice<bf16> {
        &mut self.prefill.x
    }

    /// Returns the results of the prefill, `[prefill, hidden]`, and of the last token, `[1,
    /// hidden]`.
    ///
    /// # Errors
    /// If the stream or a copy fails.
    pub fn results(&self, stream: &Arc<CudaStream>) -> Result<[Vec<bf16>; 2]> {
        let of = |buffers: &Buffers| stream.clone_dtoh(&buffers.x).map_err(failed);
        let results = [of(&self.prefill)?, of(&self.decode)?];
        stream.synchronize().map_err(failed)?;
        Ok(results)
    }
}

// SAFETY: memory is allocated by `new` only.
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
