//! Measurements on a device: buffers, graphs and events.

use cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use cudarc::driver::{CudaStream, DriverError};
use gpu_model::device::{DeviceSpec, MMA_SYNC_SHARE_SM90, MmaRates};
use gpu_model::predict::with_plan;
use gpu_model::report::Measurement;
use gpu_model::traffic::{weight_bytes, width};
use half::{bf16, f16};
use rand::{Rng, RngCore, SeedableRng};
use std::sync::Arc;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceWeight, Family, Gemm, Gpu, OperandLayout,
    Problem, build_info, driver_version, runtime_version,
};
use w4ax::{Grouping, MatRef, PackedWeight, Scales, Width};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns the properties of the device and of the build as JSON.
pub fn describe(ordinal: usize) -> Result<serde_json::Value> {
    let gpu = Gpu::new(ordinal)?;
    let context = gpu.context();
    let attribute = |attribute| context.attribute(attribute);
    let info = build_info()?;
    let version = |v: Option<w4ax::CudaVersion>| v.map(|v| v.to_string());
    let mut mma = serde_json::Map::new();
    for family in [Family::Decode, Family::Prefill] {
        for width in Width::ALL {
            let name = format!("{family} {width}");
            mma.insert(name, gpu.mma(width, family)?.to_string().into());
        }
    }
    // The version of the kernel module, such as 580.65.06, where the system shows it.
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let (major, minor) = gpu.compute_capability();
    let sms = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clock_khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    // The roofs of the model, if it knows the rates of the architecture.
    let tops = |rate: f64| rate * f64::from(sms) * f64::from(clock_khz) / 1e9;
    let mut dense_tops = serde_json::Map::new();
    if let Some(rates) = MmaRates::of(major, minor, gpu.name()) {
        for (mma, rate) in [
            ("s4", rates.s4),
            ("s8", Some(rates.s8)),
            ("bf16", Some(rates.bf16)),
        ] {
            if let Some(rate) = rate {
                dense_tops.insert(mma.into(), tops(rate).into());
            }
        }
    }
    let kernels: Vec<serde_json::Value> = (gpu.kernels()?.into_iter())
        .map(|k| {
            serde_json::json!({
                "name": k.name,
                "mma": k.mma.to_string(),
                "registers": k.registers,
                "shared_bytes": k.shared_bytes,
                "local_bytes": k.local_bytes,
                "threads": k.threads,
                "binary": k.binary_version,
                "ptx": k.ptx_version,
            })
        })
        .collect();
    Ok(serde_json::json!({
        "name": gpu.name(),
        "devices": w4ax::cuda::device_count()?,
        "capability": format!("{major}.{minor}"),
        "sms": sms,
        "clock_khz": clock_khz,
        "dense_tops": dense_tops,
        "l2_bytes": attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        "memory_bytes": context.total_mem()?,
        "driver_cuda": version(driver_version()),
        "driver_module": module.lines().next(),
        "runtime_cuda": version(runtime_version()),
        "nvcc": info.nvcc, "cutlass": info.cutlass, "built_for": info.archs,
        "mma": mma,
        "kernels": kernels,
    }))
}

/// Replays that are not timed.
const WARM_UP: usize = 3;
/// Duration of a replay by the copy bandwidth. Calls are repeated up to it, so that the launch of
/// the graph takes a small share.
const REPLAY_US: f64 = 500.0;

/// A device with a stream to measure on.
pub struct Bench {
    pub gpu: Gpu,
    pub stream: Arc<CudaStream>,
    pub repeats: usize,
    l2_bytes: usize,
    copy_gb_per_s: f64,
}

impl Bench {
    pub fn new(ordinal: usize, repeats: usize) -> Result<Self> {
        let gpu = Gpu::new(ordinal)?;
        let context = gpu.context();
        let l2_bytes = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize;
        let stream = context.new_stream()?;
        let mut bench = Self {
            gpu,
            stream,
            repeats: repeats.max(1),
            l2_bytes,
            copy_gb_per_s: 0.0,
        };
        bench.copy_gb_per_s = bench.measure_copies()?;
        Ok(bench)
    }

    pub fn name(&self) -> &str {
        self.gpu.name()
    }

    pub fn copy_gb_per_s(&self) -> f64 {
        self.copy_gb_per_s
    }

    /// Returns the call with the kernel that the table chooses for this device; `None` if the
    /// device does not support it.
    pub fn planned(&self, case: &Problem) -> Result<Option<Problem>> {
        let plan = self.gpu.plan_problem(case)?;
        let supported = self.gpu.has_family(plan.family);
        Ok(supported.then(|| with_plan(case, &plan)))
    }

    /// Returns the properties that predictions need, with the copy bandwidth in place of the data
    /// sheet's.
    pub fn device(&self) -> DeviceSpec<'_> {
        let context = self.gpu.context();
        let attribute = |a, unknown: f64| context.attribute(a).map_or(unknown, f64::from);
        let (major, minor) = self.gpu.compute_capability();
        // Without known rates, only memory is predicted.
        let rates = MmaRates::of(major, minor, self.gpu.name()).unwrap_or(MmaRates {
            s4: None,
            s8: f64::INFINITY,
            bf16: f64::INFINITY,
        });
        DeviceSpec {
            name: self.gpu.name(),
            arch: format!("sm_{major}{minor}").into(),
            sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1.0),
            ghz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1e6) / 1e6,
            gb_per_s: self.copy_gb_per_s,
            s4: rates.s4,
            s8: rates.s8,
            bf16: rates.bf16,
            mma_share: if major == 9 { MMA_SYNC_SHARE_SM90 } else { 1.0 },
        }
    }

    /// Returns the times of `work` in microseconds.
    pub fn times(
        &self,
        work: &dyn Fn() -> std::result::Result<(), DriverError>,
    ) -> Result<Vec<f64>> {
        self.times_after(&|| Ok(()), work)
    }

    /// As [`Self::times`], with `before` enqueued ahead of each replay and not timed.
    ///
    /// All replays are enqueued before the first wait, so that the time of a graph's launch on the
    /// host is hidden.
    pub fn times_after(
        &self,
        before: &dyn Fn() -> std::result::Result<(), DriverError>,
        work: &dyn Fn() -> std::result::Result<(), DriverError>,
    ) -> Result<Vec<f64>> {
        let event = || (self.gpu.context()).new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let mut events = Vec::with_capacity(self.repeats);
        for replay in 0..WARM_UP + self.repeats {
            before()?;
            let (start, end) = (event()?, event()?);
            start.record(&self.stream)?;
            work()?;
            end.record(&self.stream)?;
            if replay >= WARM_UP {
                events.push((start, end));
            }
        }
        let mut times = Vec::with_capacity(events.len());
        for (start, end) in events {
            times.push(f64::from(start.elapsed_ms(&end)?) * 1e3);
        }
        Ok(times)
    }

    /// Returns the bandwidth of a device-to-device copy in GB/s, bytes read and written.
    fn measure_copies(&self) -> Result<f64> {
        let bytes = (self.gpu.context().mem_get_info()?.0 / 8).min(1 << 30);
        let from = self.stream.alloc_zeros::<u8>(bytes)?;
        let to = std::cell::RefCell::new(self.stream.alloc_zeros::<u8>(bytes)?);
        let times = self.times(&|| self.stream.memcpy_dtod(&from, &mut *to.borrow_mut()))?;
        Ok(2.0 * bytes as f64 / Measurement::new(times, 1).median_us / 1e3)
    }

    /// Uploads copies of one weight `[n, k]` that take more than four times the size of the L2
    /// cache together.
    pub fn layers(&self, (n, k): (usize, usize), grouping: Grouping) -> Result<Vec<DeviceWeight>> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut q = vec![0u8; n * k];
        rng.fill_bytes(&mut q);
        let q: Vec<i8> = q.into_iter().map(|b| (b & 15) as i8 - 8).collect();
        let scales =
            (0..n * grouping.groups(k)).map(|_| f16::from_f32(rng.random_range(0.001..0.02)));
        let scales = Scales::F16(scales.collect());
        let packed = PackedWeight::from_quantized(MatRef::new(&q, n, k)?, grouping, &scales, None)?;
        let copies = (4 * self.l2_bytes).div_ceil(weight_bytes(n, k, grouping) as usize) + 1;
        (0..copies).map(|_| Ok(self.gpu.upload(&packed)?)).collect()
    }

    /// Measures a call over copies of its weight.
    pub fn time(&self, layers: &[DeviceWeight], case: &Problem) -> Result<Measurement> {
        let (m, n, k) = (case.m(), case.n(), case.k());
        let (gpu, stream) = (&self.gpu, &self.stream);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let x: Vec<bf16> = (0..m * k)
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect();
        let x = stream.clone_htod(&x)?;
        let mut y = stream.alloc_zeros::<bf16>(m * n)?;
        let mut workspace = gpu.workspace(stream, m, k)?;
        let mut quantized = gpu.quantized_activations(stream, m, k)?;
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        if case.quantized() {
            let operand = (case.options().family())
                .and_then(Family::activation_layout)
                .unwrap_or(OperandLayout::Fragments);
            let layout = ActivationLayout::new(case.grouping()).with_operand(operand);
            gpu.quantize(stream, &x, width(case), layout, &mut quantized)?;
        }
        let bytes = weight_bytes(n, k, case.grouping());
        let filling = (REPLAY_US * self.copy_gb_per_s * 1e3 / bytes) as usize;
        let calls = layers.len().max(16).max(filling);
        stream.synchronize()?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = layers.iter().cycle().take(calls).try_for_each(|layer| {
            let gemm = match case.quantized() {
                true => Gemm::quantized(&quantized, layer)?,
                false => Gemm::new(&x, layer, width(case)),
            };
            gpu.run(
                stream,
                &gemm.options(case.options()),
                &mut y,
                &mut workspace,
            )
        });
        // The capture must end in any case. An error of the launches is reported first because it
        // names the cause.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        let graph = graph?.ok_or("the capture is empty")?;
        graph.upload()?;
        let times = self.times(&|| graph.launch())?;
        stream.synchronize()?;
        Ok(Measurement::new(times, calls))
    }
}
