//! A device to measure on: its stack of weights, graphs and events.

use cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
use gpu_model::device::{DeviceSpec, MMA_SYNC_SHARE_SM90, MmaRates, l2_bytes_per_clock};
use gpu_model::layers::Layers;
use gpu_model::predict::with_plan;
use gpu_model::report::Measurement;
use gpu_model::traffic::weight_bytes;
use half::bf16;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use w4ax::cuda::{Gpu, Problem, cudarc};
use w4ax::{Grouping, Scheme};

use crate::args::Args;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The scheme and the grouping of weights.
pub type Kind = (Scheme, Grouping);

/// `[N, K]` of a layer of Llama-2-7B: q, k and v in one; o; gate and up in one; down.
pub const SHAPES: [(usize, usize); 4] = gpu_model::decoder::Sizes::LLAMA_2_7B.shapes();

/// Replays that are not timed.
const WARM_UP: usize = 3;
/// Seconds that a case takes beside its replays: capture, instantiation, allocations.
const CASE_SECONDS: f64 = 0.2;
/// Share of the rate of BF16 `mma.sync` that a GEMM of many tokens reaches at least, and that rate
/// in TOPS where it is not known, to estimate durations.
const LEAST_SHARE: f64 = 0.25;
const UNKNOWN_TOPS: f64 = 80.0;
/// Elements of the random activations that repeat. It divides no K.
const PATTERN: usize = 100_003;

/// A device with a stream to measure on.
pub struct Bench {
    pub gpu: Gpu,
    pub stream: Arc<CudaStream>,
    pub repeats: usize,
    pub layers: usize,
    l2_bytes: usize,
    copy_gb_per_s: f64,
    stacks: RefCell<Vec<(Kind, Arc<Layers>)>>,
}

impl Bench {
    pub fn new(args: &Args) -> Result<Self> {
        let gpu = Gpu::new(args.device)?;
        let context = gpu.context();
        let l2_bytes = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize;
        let stream = context.new_stream()?;
        let mut bench = Self {
            gpu,
            stream,
            repeats: args.repeats.max(1),
            layers: args.layers,
            l2_bytes,
            copy_gb_per_s: 0.0,
            stacks: RefCell::default(),
        };
        bench.copy_gb_per_s = bench.measure_copies()?;
        Ok(bench)
    }

    pub fn copy_gb_per_s(&self) -> f64 {
        self.copy_gb_per_s
    }

    pub fn l2_bytes(&self) -> usize {
        self.l2_bytes
    }

    pub fn attribute(&self, attribute: Attribute) -> Result<f64> {
        Ok(f64::from(self.gpu.context().attribute(attribute)?))
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
        let attribute = |a, unknown| self.attribute(a).unwrap_or(unknown);
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
            l2_bytes_per_clock: l2_bytes_per_clock(major),
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

    /// Captures what `enqueue` enqueues, and returns the times of `calls` calls of it in replays of
    /// the graph. `before` is enqueued ahead of each replay and not timed.
    pub fn replay_after(
        &self,
        calls: usize,
        before: &dyn Fn() -> std::result::Result<(), DriverError>,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<Measurement> {
        let stream = &self.stream;
        stream.synchronize()?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let enqueued = enqueue();
        // The capture must end in any case. An error of the launches is reported first because it
        // names the cause.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        enqueued?;
        let graph = graph?.ok_or("the capture is empty")?;
        graph.upload()?;
        let times = self.times_after(before, &|| graph.launch())?;
        stream.synchronize()?;
        Ok(Measurement::new(times, calls))
    }

    /// As [`Self::replay_after`], with nothing ahead of a replay.
    pub fn replay(
        &self,
        calls: usize,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<Measurement> {
        self.replay_after(calls, &|| Ok(()), enqueue)
    }

    /// Returns the bandwidth of a device-to-device copy in GB/s, bytes read and written.
    fn measure_copies(&self) -> Result<f64> {
        let bytes = (self.gpu.context().mem_get_info()?.0 / 8).min(1 << 30);
        let from = self.stream.alloc_zeros::<u8>(bytes)?;
        let to = RefCell::new(self.stream.alloc_zeros::<u8>(bytes)?);
        let times = self.times(&|| self.stream.memcpy_dtod(&from, &mut *to.borrow_mut()))?;
        Ok(2.0 * bytes as f64 / Measurement::new(times, 1).median_us / 1e3)
    }

    /// Returns the stack of weights of a scheme and grouping, which all cases share.
    ///
    /// The weights of each shape take more than four times the size of the L2 cache together, so
    /// that no weight is in it when it is read.
    pub fn stack(&self, kind: Kind) -> Result<Arc<Layers>> {
        if let Some((_, stack)) = self.stacks.borrow().iter().find(|(of, _)| *of == kind) {
            return Ok(stack.clone());
        }
        let bytes = SHAPES.map(|(n, k)| weight_bytes((n, k), kind.0, kind.1) as usize);
        let smallest = bytes.into_iter().min().unwrap_or(1);
        let layers = self.layers.max((4 * self.l2_bytes).div_ceil(smallest) + 1);
        let (free, layer) = (
            self.gpu.context().mem_get_info()?.0,
            bytes.iter().sum::<usize>(),
        );
        // Half of what is free, so that the stacks of other groupings have room.
        let layers = layers.min(free / 2 / layer);
        if layers == 0 {
            return Err(format!(
                "{} MB of device memory are free: expected at least {} MB, for two layers",
                free / 1_000_000,
                2 * layer / 1_000_000
            )
            .into());
        }
        let stack = Arc::new(Layers::repeated(&self.gpu, SHAPES, kind, layers)?);
        self.stacks.borrow_mut().push((kind, stack.clone()));
        Ok(stack)
    }

    /// Returns `len` random activations in [-1, 1). The device copies a pattern.
    pub fn activations(&self, len: usize) -> Result<CudaSlice<bf16>> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let pattern: Vec<bf16> = (0..PATTERN.min(len))
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect();
        let mut x = self.stream.alloc_zeros::<bf16>(len)?;
        let mut filled = pattern.len();
        self.stream
            .memcpy_htod(&pattern, &mut x.slice_mut(..filled))?;
        while filled < len {
            let count = filled.min(len - filled);
            let (from, mut to) = x.split_at_mut(filled);
            self.stream.memcpy_dtod(&from.slice(..count), &mut to)?;
            filled += count;
        }
        // The pattern is freed.
        self.stream.synchronize()?;
        Ok(x)
    }

    /// Returns the microseconds that a call takes by a rough estimate.
    pub fn estimated_us(&self, case: &Problem) -> f64 {
        let (m, n, k) = (case.m(), case.n(), case.k());
        let bytes = weight_bytes((n, k), case.scheme(), case.grouping()) + (2 * m * (n + k)) as f64;
        let operations = 2.0 * (m * n * k) as f64;
        let device = self.device();
        let rate =
            Some(device.bf16 * device.sms * device.ghz / 1e3).filter(|rate| rate.is_finite());
        let tops = LEAST_SHARE * rate.unwrap_or(UNKNOWN_TOPS);
        (bytes / self.copy_gb_per_s / 1e3).max(operations / tops / 1e6)
    }

    /// Returns the time that the replays of a graph of `us` microseconds take.
    pub fn expected(&self, us: f64) -> Duration {
        Duration::from_secs_f64((WARM_UP + self.repeats) as f64 * us / 1e6 + CASE_SECONDS)
    }
}
