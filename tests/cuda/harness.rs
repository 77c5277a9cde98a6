//! One call on the device: guarded buffers, poisoned outputs, the expected bits.

use crate::support::{Kind, PlainWeight, bits, rng};
use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DeviceRepr};
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use w4ax::cpu::Cpu;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceVecRef, DeviceWeight, Family, Gemm,
    GemmOptions, Gpu, LaunchPlan, OperandLayout, QuantizedActivations, Workspace,
};
use w4ax::{Grouping, MatMut, MatRef, PackedWeight, ScaleType, Scheme, Width};

/// Elements before and after each buffer that no kernel may write.
const GUARD: usize = 1024;
/// The contents of a result before the launch.
pub const POISON: bf16 = bf16::from_bits(0xDEAD);
/// The elements around and between the rows of x. A kernel that reads them returns NaN.
const AROUND_X: bf16 = bf16::NAN;

/// GEMMs of more multiplications than this are compared on some channels only.
const WHOLE: usize = 4_000_000_000;

pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
        Err(_) => default,
    }
}

/// The number of random cases of a test with `full` cases.
pub fn cases(full: u32) -> u32 {
    if cfg!(w4ax_software_device) {
        full.div_ceil(if plays_another_device() { 20 } else { 10 })
    } else if setting("W4AX_QUICK", 0) != 0 {
        full.div_ceil(10)
    } else {
        full
    }
}

/// Whether this process repeats tests on a device or driver other than the default one.
pub fn plays_another_device() -> bool {
    std::env::var_os("W4AX_DEVICE_PLAY").is_some_and(|play| !play.is_empty())
}

/// Sizes of a test: `full` on a GPU, `small` on the software device, whose kernels are emulated.
pub fn scaled<T>(full: T, small: T) -> T {
    if cfg!(w4ax_software_device) {
        small
    } else {
        full
    }
}

/// The turn of a test. A capture forbids every synchronization of its context, also that of other
/// threads (CUDA's guide, "Prohibited and Unhandled Operations"): a test that creates its first
/// stream or drops a weight would invalidate the capture of another one.
struct Turn;

static BUSY: Mutex<bool> = Mutex::new(false);
static FREE: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = FREE.wait_while(busy, |busy| *busy);
        *busy.unwrap_or_else(PoisonError::into_inner) = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREE.notify_one();
    }
}

/// The device of a test, which no other test of the process uses meanwhile.
pub struct Device {
    pub gpu: Gpu,
    pub stream: Arc<CudaStream>,
    pub cpu: Cpu,
    /// The last field, so that the next test begins after everything else is dropped.
    _turn: Option<Turn>,
}

impl Device {
    pub fn new() -> Self {
        let turn = Turn::take();
        let gpu = Gpu::new(setting("W4AX_DEVICE", 0) as usize).unwrap_or_else(|e| panic!("{e}"));
        let stream = gpu.context().new_stream().unwrap();
        Self {
            gpu,
            stream,
            cpu: Cpu::new().unwrap(),
            _turn: Some(turn),
        }
    }

    /// The same device with another stream.
    pub fn fork(&self) -> Self {
        Self {
            gpu: self.gpu.clone(),
            stream: self.gpu.context().new_stream().unwrap(),
            cpu: self.cpu.clone(),
            _turn: None,
        }
    }
}

/// Device memory between two guards. `shift` misaligns it by that many elements.
pub struct Guarded<T> {
    slice: CudaSlice<T>,
    start: usize,
    len: usize,
    around: T,
}

impl<T: DeviceRepr + Copy + bytemuck::Pod + std::fmt::Debug> Guarded<T> {
    pub fn new(stream: &Arc<CudaStream>, inside: &[T], around: T, shift: usize) -> Self {
        let start = GUARD + shift;
        let mut host = vec![around; start + inside.len() + GUARD];
        host[start..][..inside.len()].copy_from_slice(inside);
        Self {
            slice: stream.clone_htod(&host).unwrap(),
            start,
            len: inside.len(),
            around,
        }
    }

    pub fn view(&self) -> CudaView<'_, T> {
        self.slice.slice(self.start..self.start + self.len)
    }

    pub fn view_mut(&mut self) -> CudaViewMut<'_, T> {
        self.slice.slice_mut(self.start..self.start + self.len)
    }

    pub fn address(&self, stream: &CudaStream) -> u64 {
        self.view().device_ptr(stream).0
    }

    /// Reads the memory and checks that the guards have not changed.
    pub fn read(&self, stream: &Arc<CudaStream>, what: &str) -> Vec<T> {
        let host: Vec<T> = stream.clone_dtoh(&self.slice).unwrap();
        stream.synchronize().unwrap();
        let around = bytemuck::bytes_of(&self.around).to_vec();
        for (at, value) in host.iter().enumerate() {
            let inside = (self.start..self.start + self.len).contains(&at);
            assert!(
                inside || bytemuck::bytes_of(value) == around,
                "{what}: element {} of {} was written: {value:?}",
                at as isize - self.start as isize,
                self.len
            );
        }
        host[self.start..][..self.len].to_vec()
    }
}

/// A weight on the host and on the device.
pub struct Layer {
    pub plain: PlainWeight,
    pub packed: PackedWeight,
    pub device: DeviceWeight,
}

impl Layer {
    pub fn new(
        device: &Device,
        rng: &mut ChaCha8Rng,
        (n, k): (usize, usize),
        grouping: Grouping,
        scale_type: ScaleType,
        symmetric: bool,
    ) -> Self {
        let weights = (Scheme::Grouped, grouping);
        Self::of_scheme(device, rng, (n, k), weights, scale_type, symmetric)
    }

    pub fn of_scheme(
        device: &Device,
        rng: &mut ChaCha8Rng,
        (n, k): (usize, usize),
        (scheme, grouping): (Scheme, Grouping),
        scale_type: ScaleType,
        symmetric: bool,
    ) -> Self {
        let plain = PlainWeight::random_of(scheme, rng, (n, k), grouping, scale_type, symmetric);
        Self::of(device, plain)
    }

    pub fn of(device: &Device, plain: PlainWeight) -> Self {
        let packed = plain.pack();
        Self {
            device: device.gpu.upload(&packed).unwrap(),
            packed,
            plain,
        }
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub m: usize,
    pub width: Width,
    /// Whether a separate launch quantizes x first.
    pub packed: bool,
    pub options: GemmOptions,
    pub kind: Kind,
    pub bias: bool,
    /// Elements between the rows of x and y.
    pub gaps: (usize, usize),
    /// Elements by which x and y are misaligned.
    pub shifts: (usize, usize),
    pub seed: u64,
}

impl Call {
    pub fn new(m: usize, width: Width) -> Self {
        Self {
            m,
            width,
            packed: false,
            options: GemmOptions::default(),
            kind: Kind::Normal,
            bias: false,
            gaps: (0, 0),
            shifts: (0, 0),
            seed: 1,
        }
    }
}

/// The operands of a call on the host: x with its gaps, and the bias.
pub struct Inputs {
    pub x: Vec<bf16>,
    pub stride: usize,
    pub bias: Option<Vec<f32>>,
}

impl Inputs {
    pub fn new(call: &Call, (n, k): (usize, usize)) -> Self {
        let rng = &mut rng(call.seed);
        let stride = k + call.gaps.0;
        let dense = call.kind.fill(rng, call.m * k);
        let mut x = vec![AROUND_X; (call.m - 1) * stride + k];
        for (token, row) in dense.chunks(k).enumerate() {
            x[token * stride..][..k].copy_from_slice(row);
        }
        let bias = call
            .bias
            .then(|| (0..n).map(|_| rng.random_range(-3f32..3.0)).collect());
        Self { x, stride, bias }
    }

    pub fn view(&self, m: usize, k: usize) -> MatRef<'_, bf16> {
        MatRef::with_stride(&self.x, m, k, self.stride).unwrap()
    }
}

/// Runs a call. Returns the dense result and the plan. Checks that guards, gaps and inputs have not
/// changed.
pub fn run(
    device: &Device,
    layer: &Layer,
    call: &Call,
    inputs: &Inputs,
) -> (Vec<bf16>, LaunchPlan) {
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, n, k) = (call.m, layer.packed.n(), layer.packed.k());
    let x = Guarded::new(stream, &inputs.x, AROUND_X, call.shifts.0);
    let y_stride = n + call.gaps.1;
    let poison = vec![POISON; (m - 1) * y_stride + n];
    let mut y = Guarded::new(stream, &poison, bf16::from_bits(0x1234), call.shifts.1);
    let bias = inputs
        .bias
        .as_ref()
        .map(|b| Guarded::new(stream, b, f32::NAN, 0));

    let x_mat = DeviceMatRef::with_stride(x.view(), m, k, inputs.stride).unwrap();
    let bias_vec = bias
        .as_ref()
        .map(|b| DeviceVecRef::new(b.view(), n).unwrap());
    let mut packed_memory = None;
    let packed = call.packed.then(|| {
        let (width, grouping) = (call.width, layer.device.activation_grouping());
        let layout = (call.options.family().and_then(Family::activation_layout))
            .unwrap_or(OperandLayout::Fragments);
        let packing = ActivationLayout::new(grouping).with_operand(layout);
        let bytes = QuantizedActivations::bytes_for(m, k, width, grouping, layout).unwrap();
        let memory = packed_memory.insert(Guarded::new(stream, &vec![0xEEu8; bytes], 0xAB, 0));
        // SAFETY: `memory` has that many bytes and outlives the launches, which run on its stream.
        let mut packed =
            unsafe { QuantizedActivations::from_raw(gpu.ordinal(), memory.address(stream), bytes) };
        gpu.quantize(stream, &x_mat, width, packing, &mut packed)
            .unwrap();
        packed
    });
    let gemm = match &packed {
        Some(packed) => Gemm::quantized(packed, &layer.device).unwrap(),
        None => Gemm::new(&x_mat, &layer.device, call.width),
    };
    let gemm = gemm.bias(bias_vec.as_ref()).options(call.options);

    let (plan, workspace_memory);
    {
        let mut y = DeviceMatMut::with_stride(y.view_mut(), m, n, y_stride).unwrap();
        plan = gpu
            .plan(&gemm, &y)
            .unwrap_or_else(|e| panic!("{call:?}: {e}"));
        // Exactly the planned bytes, with guards around them.
        let bytes = plan.workspace_bytes;
        workspace_memory = Guarded::new(stream, &vec![0xEEu8; bytes], 0xAB, 0);
        // SAFETY: as above.
        let mut workspace =
            unsafe { Workspace::from_raw(gpu.ordinal(), workspace_memory.address(stream), bytes) };
        gpu.run(stream, &gemm, &mut y, &mut workspace)
            .unwrap_or_else(|e| panic!("{call:?}: {e}"));
    }
    stream
        .synchronize()
        .unwrap_or_else(|e| panic!("{call:?}: {plan}: {e}"));

    workspace_memory.read(stream, "workspace");
    if let Some(memory) = packed_memory {
        memory.read(stream, "packed activations");
    }
    assert_eq!(
        bits(&x.read(stream, "x")),
        bits(&inputs.x),
        "{call:?}: x has changed"
    );
    let mut result = Vec::with_capacity(m * n);
    for (token, row) in y.read(stream, "y").chunks(y_stride).enumerate() {
        result.extend_from_slice(&row[..n]);
        let gap = &row[n..];
        assert!(
            gap.iter().all(|&v| v == POISON),
            "{call:?}: {plan}: wrote after row {token} of y"
        );
    }
    (result, plan)
}

/// The result of the CPU, which has the bits of the reference.
pub fn expected(
    cpu: &Cpu,
    w: &PackedWeight,
    x: MatRef<'_, bf16>,
    call: &Call,
    bias: Option<&[f32]>,
) -> Vec<bf16> {
    let mut y = vec![POISON; x.rows() * w.n()];
    let mut workspace = cpu.workspace(x.rows(), x.cols()).unwrap();
    let view = MatMut::new(&mut y, x.rows(), w.n()).unwrap();
    cpu.run(
        &w4ax::Gemm::new(x, w, call.width).bias(bias),
        view,
        &mut workspace,
    )
    .unwrap();
    y
}

/// Some channels: the first, the last, and random ones.
pub fn some_channels(n: usize, count: usize, seed: u64) -> Vec<usize> {
    let rng = &mut rng(seed);
    let drawn = (0..count.saturating_sub(2)).map(|_| rng.random_range(0..n));
    [0, n - 1].into_iter().chain(drawn).collect()
}

/// Runs a call of a quantized width (or of BF16 on data whose sums are exact in every order) and
/// compares all bits.
pub fn check(device: &Device, layer: &Layer, call: &Call) -> LaunchPlan {
    let (n, k) = (layer.packed.n(), layer.packed.k());
    let inputs = Inputs::new(call, (n, k));
    let (got, plan) = run(device, layer, call, &inputs);
    compare(device, layer, call, &inputs, &got, &plan);
    plan
}

pub fn compare(
    device: &Device,
    layer: &Layer,
    call: &Call,
    inputs: &Inputs,
    got: &[bf16],
    plan: &LaunchPlan,
) {
    let (m, n, k) = (call.m, layer.packed.n(), layer.packed.k());
    let x = inputs.view(m, k);
    let whole = m * n * k <= WHOLE;
    let channels: Vec<usize> = if whole {
        (0..n).collect()
    } else {
        some_channels(n, 96, call.seed)
    };
    let bias = inputs.bias.as_deref();
    let expected = if whole {
        expected(&device.cpu, &layer.packed, x, call, bias)
    } else {
        let bias: Option<Vec<f32>> = bias.map(|b| channels.iter().map(|&c| b[c]).collect());
        expected(
            &device.cpu,
            &layer.plain.rows(&channels).pack(),
            x,
            call,
            bias.as_deref(),
        )
    };
    for (at, expected) in expected.iter().enumerate() {
        let (token, channel) = (at / channels.len(), channels[at % channels.len()]);
        let got = got[token * n + channel];
        assert!(
            got.to_bits() == expected.to_bits(),
            "{call:?}: {plan}: N {n} K {k} {} {}: y[{token}][{channel}] is {got} ({:#06x}): \
             expected {expected} ({:#06x})",
            layer.packed.scheme(),
            layer.packed.grouping(),
            got.to_bits(),
            expected.to_bits()
        );
    }
}
