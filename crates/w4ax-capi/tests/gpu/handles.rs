//! The device, a weight, and the handles of both.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::null;
use std::sync::Arc;

use half::bf16;
use test_support::{PlainWeight, rng};
use w4ax::cpu::Cpu;
use w4ax::cuda::Gpu;
use w4ax::cuda::cudarc::driver::CudaStream;
use w4ax::{Gemm, Grouping, KOrder, MatMut, MatRef, PackedWeight, ScaleType, Width};
use w4ax_capi::enums::CEnum;
use w4ax_capi::gpu::{
    GpuWeight, w4ax_gpu_create, w4ax_gpu_free, w4ax_gpu_weight_free, w4ax_gpu_weight_upload,
};
use w4ax_capi::status::{Status, w4ax_last_error};
use w4ax_capi::weight::{PackArgs, Weight, w4ax_weight_free, w4ax_weight_pack};

pub fn ok(status: Status) {
    // SAFETY: the text is NUL-terminated and lives until the next error of this thread.
    let text = unsafe { CStr::from_ptr(w4ax_last_error()) };
    assert_eq!(status, Status::Ok, "{text:?}");
}

/// Returns what a function writes on success.
pub fn written<T>(call: impl FnOnce(*mut T) -> Status) -> T {
    let mut output = MaybeUninit::uninit();
    ok(call(output.as_mut_ptr()));
    // SAFETY: a successful call writes its output.
    unsafe { output.assume_init() }
}

/// The device and a stream on it.
pub struct Device {
    pub gpu: Gpu,
    pub stream: Arc<CudaStream>,
    pub cpu: Cpu,
}

impl Device {
    pub fn new() -> Self {
        let ordinal = match std::env::var("W4AX_DEVICE") {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("W4AX_DEVICE is not a number: {text}")),
            Err(_) => 0,
        };
        let gpu = Gpu::new(ordinal).unwrap_or_else(|e| panic!("{e}"));
        let stream = gpu.context().new_stream().unwrap();
        let cpu = Cpu::new().unwrap();
        Self { gpu, stream, cpu }
    }

    /// The result of the CPU backend, which has the bits of the scalar reference.
    pub fn expected(&self, x: MatRef<'_, bf16>, weight: &PackedWeight, width: Width) -> Vec<bf16> {
        let mut y = vec![bf16::NAN; x.rows() * weight.n()];
        let view = MatMut::new(&mut y, x.rows(), weight.n()).unwrap();
        let mut workspace = self.cpu.workspace(x.rows(), x.cols()).unwrap();
        (self.cpu)
            .run(&Gemm::new(x, weight, width), view, &mut workspace)
            .unwrap();
        y
    }
}

/// A symmetric weight with F32 scales, with or without an order of k.
pub struct Layer {
    pub plain: PlainWeight,
    pub order: Option<Vec<u32>>,
}

impl Layer {
    pub fn new(seed: u64, (n, k): (usize, usize), grouping: Grouping, ordered: bool) -> Self {
        let rng = &mut rng(seed);
        let plain = PlainWeight::random(rng, (n, k), grouping, ScaleType::F32, true);
        // 7 is no factor of any K in these tests.
        let order = ordered.then(|| (0..k).map(|i| (i * 7 % k) as u32).collect());
        Self { plain, order }
    }

    /// The weight that [`Handles`] packs: its `q` is in the order of the matrix.
    pub fn pack(&self) -> PackedWeight {
        let Some(order) = &self.order else {
            return self.plain.pack();
        };
        let order = KOrder::new(order.clone()).unwrap();
        let (n, k) = (self.plain.n, self.plain.k);
        let mut gathered = self.plain.clone();
        let q = MatRef::new(&self.plain.q, n, k).unwrap();
        let to = MatMut::new(&mut gathered.q, n, k).unwrap();
        order.gather(q, to).unwrap();
        gathered.pack().with_order(order).unwrap()
    }
}

/// A `w4ax_gpu` and a `w4ax_gpu_weight`.
pub struct Handles {
    pub gpu: *mut w4ax_capi::gpu::Gpu,
    pub weight: *mut GpuWeight,
}

impl Handles {
    pub fn new(device: &Device, layer: &Layer) -> Self {
        let plain = &layer.plain;
        let order = layer.order.as_deref();
        // SAFETY: for each call, every pointer is null or points at what the header describes.
        unsafe {
            let ordinal = device.gpu.ordinal() as u32;
            let gpu = written(|gpu| w4ax_gpu_create(ordinal, gpu));
            let args = PackArgs {
                q: plain.q.as_ptr(),
                q_len: plain.q.len(),
                q_stride: 0,
                scales: plain.scales.bytes().as_ptr().cast(),
                scales_len: plain.n * plain.grouping.groups(plain.k),
                zeros: null(),
                zeros_len: 0,
                order: order.map_or(null(), <[u32]>::as_ptr),
                order_len: order.map_or(0, <[u32]>::len),
                n: plain.n,
                k: plain.k,
                grouping: plain.grouping.number(),
                scale_type: ScaleType::F32.number(),
                threads: 1,
                reserved: 0,
            };
            let host: *mut Weight = written(|weight| w4ax_weight_pack(&args, weight));
            let weight = written(|weight| w4ax_gpu_weight_upload(gpu, host, weight));
            w4ax_weight_free(host);
            Self { gpu, weight }
        }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used afterwards.
        unsafe {
            w4ax_gpu_free(self.gpu);
            w4ax_gpu_weight_free(self.weight);
        }
    }
}
