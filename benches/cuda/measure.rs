//! The device's part: buffers, graphs, events.

use cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use cudarc::driver::{CudaStream, DriverError};
use gpu_model::device::{DeviceProps, SM90, weight_bytes};
use gpu_model::predict::named;
use gpu_model::report::Measured;
use half::{bf16, f16};
use rand::{Rng, RngCore, SeedableRng};
use std::sync::Arc;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceWeight, Family, Gemm, Gpu, OperandLayout,
    Problem, build_info, driver_version, runtime_version,
};
use w4ax::{Grouping, MatRef, PackedWeight, Scales, Width};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The device and the build, for the report.
pub fn describe(ordinal: usize) -> Result<serde_json::Value> {
    let gpu = Gpu::new(ordinal)?;
    let context = gpu.context();
    let attribute = |attribute| context.attribute(attribute);
    let info = build_info()?;
    let version = |v: Option<w4ax::cuda::Version>| v.map(|v| v.to_string());
    let mut mma = serde_json::Map::new();
    for family in [Family::Decode, Family::Prefill] {
        for width in Width::ALL {
            let name = format!("{family} {width}");
            mma.insert(name, gpu.mma(width, family)?.to_string().into());
        }
    }
    // The kernel module's own number, such as 580.65.06, where the system shows it.
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let (major, minor) = gpu.compute_capability();
    let sms = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clock_khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    // The model's roofs; none where it has no rates.
    let tops = |rate: f64| rate * f64::from(sms) * f64::from(clock_khz) / 1e9;
    let mut dense_tops = serde_json::Map::new();
    if let Some((s4, s8, bf16)) = DeviceProps::rates(major, minor, gpu.name()) {
        for (mma, rate) in [("s4", s4), ("s8", Some(s8)), ("bf16", Some(bf16))] {
            if let Some(rate) = rate {
                dense_tops.insert(mma.into(), tops(rate).into());
            }
        }
    }
    let kernels: Vec<serde_json::Value> = (gpu.kernels()?.into_iter())
        .map(|k| {
            serde_json::json!({
                "name": k.name, "mma": k.mma.to_string(), "registers": k.registers, "shared_bytes": k.shared_bytes,
                "local_bytes": k.local_bytes, "threads": k.threads, "binary": k.binary_version, "ptx": k.ptx_version,
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

/// Replays before those that count.
const WARM_UP: usize = 3;
/// A graph has calls enough to read weights for so long, at the copy bandwidth: what its launch takes counts for little.
const REPLAY_US: f64 = 500.0;

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

    /// The case with the kernel that runs on this device named in it; `None` if the device does not have it.
    pub fn planned(&self, case: &Problem) -> Result<Option<Problem>> {
        let plan = self.gpu.plan_problem(case)?;
        let there = self.gpu.has_family(plan.family);
        Ok(there.then(|| named(case, &plan)))
    }

    /// What the model needs; the copy bandwidth stands for the sheet's.
    pub fn chip(&self) -> DeviceProps<'_> {
        let context = self.gpu.context();
        let attribute = |a, unknown: f64| context.attribute(a).map_or(unknown, f64::from);
        let (major, minor) = self.gpu.compute_capability();
        // Where the model has no rates, memory alone is predicted.
        let (s4, s8, bf16) = DeviceProps::rates(major, minor, self.gpu.name()).unwrap_or((
            None,
            f64::INFINITY,
            f64::INFINITY,
        ));
        DeviceProps {
            name: self.gpu.name(),
            arch: format!("sm_{major}{minor}").into(),
            sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1.0),
            ghz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1e6) / 1e6,
            gb_per_s: self.copy_gb_per_s,
            s4,
            s8,
            bf16,
            mma_share: if major == 9 { SM90 } else { 1.0 },
        }
    }

    /// The times of `work` in ascending order.
    pub fn times(
        &self,
        work: &dyn Fn() -> std::result::Result<(), DriverError>,
    ) -> Result<Vec<f64>> {
        self.times_after(&|| Ok(()), work)
    }

    /// As [`Self::times`], with `before` on the stream ahead of each and not in its time. All of it is enqueued before any of
    /// it is waited for: what the host takes to launch a graph stands in no time but the first ones', which do not count.
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
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// GB/s of a device-to-device copy, read and written bytes together.
    fn measure_copies(&self) -> Result<f64> {
        let bytes = (self.gpu.context().mem_get_info()?.0 / 8).min(1 << 30);
        let from = self.stream.alloc_zeros::<u8>(bytes)?;
        let to = std::cell::RefCell::new(self.stream.alloc_zeros::<u8>(bytes)?);
        let times = self.times(&|| self.stream.memcpy_dtod(&from, &mut *to.borrow_mut()))?;
        Ok(2.0 * bytes as f64 / times[times.len() / 2] / 1e3)
    }

    /// Copies of one weight, several times the size of the L2 cache in all.
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

    pub fn time(&self, layers: &[DeviceWeight], case: &Problem) -> Result<Measured> {
        let Problem { m, n, k, .. } = *case;
        let (gpu, stream) = (&self.gpu, &self.stream);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let x: Vec<bf16> = (0..m * k)
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect();
        let x = stream.clone_htod(&x)?;
        let mut y = stream.alloc_zeros::<bf16>(m * n)?;
        let mut workspace = gpu.workspace(stream, m, k)?;
        let mut packed = gpu.packed_activations(stream, m, k)?;
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        if case.packed {
            let packing = ActivationLayout {
                layout: (case.options.family.and_then(Family::packed_layout))
                    .unwrap_or(OperandLayout::Fragments),
                ..case.grouping.into()
            };
            gpu.quantize_pack(stream, &x, case.width, packing, &mut packed)?;
        }
        let bytes = weight_bytes(n, k, case.grouping);
        let filling = (REPLAY_US * self.copy_gb_per_s * 1e3 / bytes) as usize;
        let calls = layers.len().max(16).max(filling);
        stream.synchronize()?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = layers.iter().cycle().take(calls).try_for_each(|layer| {
            let gemm = match case.packed {
                true => Gemm::packed(&packed, layer)?,
                false => Gemm::new(&x, layer, case.width),
            };
            gpu.gemm(stream, &gemm.options(case.options), &mut y, &mut workspace)
        });
        // The capture ends in any case; the launches' error says more than its own.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        let graph = graph?.ok_or("nothing was captured")?;
        graph.upload()?;
        let times = self.times(&|| graph.launch())?;
        stream.synchronize()?;
        Ok(Measured::of(&times, calls))
    }
}
