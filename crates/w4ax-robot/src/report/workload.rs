//! The GEMMs of a control step of Llama's shape: a prefill of many tokens, then tokens one by one.
//!
//! Weights and activations are random. There is no attention and no activation function: the time
//! is that of the seven projections of each layer, which is nearly all of a step of OpenVLA.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::cpu::{Cpu, Workspace};
use w4ax::dispatch::LayerFloors;
use w4ax::step::HostStep;
use w4ax::{Gemm, Grouping, MatMut, MatRef, PackedWeight, Quantize, Result, Width};

/// The sizes of a workload.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadSizes {
    /// Width of the residual stream, a multiple of 64.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Tokens of the prefill.
    pub prefill: usize,
    /// Tokens that are decoded one by one.
    pub decode: usize,
}

impl WorkloadSizes {
    /// Returns the inner width of the MLP: Llama's ratio, a multiple of 64.
    pub const fn intermediate(&self) -> usize {
        self.hidden * 43 / 16 / 64 * 64
    }

    /// Returns `[N, K]` of the projections of a layer: q, k, v, o, gate, up, down.
    const fn projections(&self) -> [(usize, usize); 7] {
        let (hidden, inner) = (self.hidden, self.intermediate());
        [
            (hidden, hidden),
            (hidden, hidden),
            (hidden, hidden),
            (hidden, hidden),
            (inner, hidden),
            (inner, hidden),
            (hidden, inner),
        ]
    }
}

/// The packed weights of a workload, which several of its runs share.
#[derive(Clone)]
pub struct WorkloadWeights {
    sizes: WorkloadSizes,
    layers: Arc<Vec<Vec<PackedWeight>>>,
}

impl WorkloadWeights {
    /// Packs random weights, the same in each run.
    ///
    /// # Errors
    /// As [`Quantize::pack`].
    pub fn random(sizes: WorkloadSizes) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut pack = |(n, k): (usize, usize)| {
            let plain: Vec<f32> = (0..n * k).map(|_| rng.random_range(-0.05..0.05)).collect();
            Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)
        };
        let layers = (0..sizes.layers)
            .map(|_| sizes.projections().into_iter().map(&mut pack).collect())
            .collect::<Result<_>>()?;
        Ok(Self {
            sizes,
            layers: Arc::new(layers),
        })
    }
}

/// A step of the workload on the CPU, for a [`HostEngine`](w4ax::step::HostEngine).
pub struct Workload {
    weights: WorkloadWeights,
    cpu: Cpu,
    workspace: Workspace,
    floors: LayerFloors,
    /// `[prefill, intermediate]`: activations.
    x: Vec<bf16>,
    /// `[prefill, intermediate]`.
    y: Vec<bf16>,
    /// The end of the last prefill.
    prefilled: Instant,
    gap: Arc<AtomicU64>,
}

impl Workload {
    /// Makes a workload with floors, `[layers]`.
    ///
    /// # Errors
    /// As [`Cpu::workspace`].
    pub fn new(weights: &WorkloadWeights, cpu: Cpu, floors: LayerFloors) -> Result<Self> {
        let sizes = weights.sizes;
        let most = sizes.prefill.max(1) * sizes.intermediate();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut value = || bf16::from_f32(rng.random_range(-1.0..1.0));
        Ok(Self {
            weights: weights.clone(),
            workspace: cpu.workspace(sizes.prefill.max(1), sizes.intermediate())?,
            cpu,
            floors,
            x: (0..most).map(|_| value()).collect(),
            y: vec![bf16::ZERO; most],
            prefilled: Instant::now(),
            gap: Arc::default(),
        })
    }

    /// Returns the time from the end of the last prefill to its decode, in nanoseconds, which is
    /// written at each step: how long the step waited for its width.
    pub fn gap(&self) -> Arc<AtomicU64> {
        self.gap.clone()
    }

    /// Runs all projections for `tokens` tokens.
    fn pass(&mut self, tokens: usize, width: Width) -> Result<()> {
        for (layer, projections) in self.weights.layers.iter().enumerate() {
            let width = self.floors.width(layer, width);
            for weight in projections {
                let (n, k) = (weight.n(), weight.k());
                let x = MatRef::new(&self.x[..tokens * k], tokens, k)?;
                let y = MatMut::new(&mut self.y[..tokens * n], tokens, n)?;
                let gemm = Gemm::new(x, weight, width);
                self.cpu.run(&gemm, y, &mut self.workspace)?;
            }
        }
        Ok(())
    }
}

impl HostStep for Workload {
    type Observation = ();
    type Loaded = ();

    fn load((): &mut (), (): &()) {}

    fn prefill(&mut self, (): &(), width: Width) -> Result<()> {
        self.pass(self.weights.sizes.prefill, width)?;
        self.prefilled = Instant::now();
        Ok(())
    }

    fn decode(&mut self, (): &(), width: Width) -> Result<()> {
        let gap = self.prefilled.elapsed().as_nanos();
        self.gap.store(gap as u64, Ordering::Relaxed);
        for _ in 0..self.weights.sizes.decode {
            self.pass(1, width)?;
        }
        Ok(())
    }
}
