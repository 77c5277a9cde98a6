//! The backend of a build with feature `cuda`: converts checked arguments to the types of w4ax.

use std::ffi::{CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::OnceLock;

use w4ax::cuda::cudarc::driver::{result::ctx, sys};
use w4ax::cuda::{
    self, ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceVecRef, DeviceWeight, Gemm,
    GemmOptions, Gpu, LaunchPlan, OperandLayout, QuantizedActivations, StreamRef, Workspace,
};
use w4ax::{Error, Grouping, PackedWeight, Unavailable, Width};

use crate::enums::{CEnum, Family, Mma, Mode};
use crate::status::{Failure, Result, Status};
use crate::weight::{WeightInfo, symmetry_number};

use super::{Block, GatherCall, GemmCall, GpuInfo, GpuPlan, KernelChoice, Problem, QuantizeCall};

pub struct Device {
    pub(super) gpu: InCallersContext<Gpu>,
    /// NUL-terminated.
    name: CString,
}

pub struct Weight(InCallersContext<DeviceWeight>);

/// Restores the current context of this thread when it is dropped, because cudarc changes it.
struct CallersContext(sys::CUcontext);

impl CallersContext {
    /// Requires a driver: cudarc panics without one.
    fn keep() -> Self {
        let current = ctx::get_current().ok().flatten();
        Self(current.unwrap_or(std::ptr::null_mut()))
    }
}

impl Drop for CallersContext {
    fn drop(&mut self) {
        // SAFETY: the context was current in this thread when the call began, or is null for none.
        // If it was destroyed meanwhile, the next CUDA call of the caller reports it.
        let _ = unsafe { ctx::set_current(self.0) };
    }
}

/// A value whose drop keeps the current context of the thread.
pub(super) struct InCallersContext<T>(ManuallyDrop<T>);

impl<T> InCallersContext<T> {
    fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> Deref for InCallersContext<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for InCallersContext<T> {
    fn drop(&mut self) {
        let _caller = CallersContext::keep();
        // SAFETY: the value is dropped here only.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

fn unavailable(requested: &str, reason: Unavailable) -> Failure {
    let requested = requested.to_owned();
    Failure::from(Error::Unavailable { requested, reason })
}

pub fn count() -> Result<usize> {
    cuda::device_count().map_err(|reason| unavailable("CUDA", reason))
}

/// The families of w4ax and those of the ABI. `W4AX_FAMILY_AUTO` is no family of w4ax.
const FAMILIES: [(cuda::Family, Family); 4] = [
    (cuda::Family::Decode, Family::Decode),
    (cuda::Family::Prefill, Family::Prefill),
    (cuda::Family::Plain, Family::Plain),
    (cuda::Family::Wgmma, Family::Wgmma),
];

/// `None` for `W4AX_FAMILY_AUTO`.
fn family(family: Family) -> Option<cuda::Family> {
    let row = FAMILIES.iter().find(|row| row.1 == family);
    row.map(|row| row.0)
}

/// A family that [`super::kernel_family`] has checked.
fn kernel_family(of: Family) -> cuda::Family {
    family(of).expect("not W4AX_FAMILY_AUTO")
}

fn mma(mma: cuda::Mma) -> Mma {
    match mma {
        cuda::Mma::S4 => Mma::S4,
        cuda::Mma::S8 => Mma::S8,
        cuda::Mma::Bf16 => Mma::Bf16,
        cuda::Mma::WgmmaS8 => Mma::WgmmaS8,
        cuda::Mma::WgmmaBf16 => Mma::WgmmaBf16,
        // `Routed` as well: a call of the ABI has one width, so that no kernel is routed.
        _ => Mma::None,
    }
}

impl From<KernelChoice> for GemmOptions {
    fn from(choice: KernelChoice) -> Self {
        Self::default()
            .with_family(family(choice.family))
            .with_fused((choice.mode == Mode::Fused).then_some(true))
            .with_tile((choice.tile > 0).then_some(choice.tile))
            .with_pdl(choice.pdl)
    }
}

/// Returns the name of a kernel, NUL-terminated and static.
fn kernel_name(name: &str) -> *const c_char {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let names = cuda::kernel_names().into_iter();
        names.filter_map(|name| CString::new(name).ok()).collect()
    });
    let found = names
        .iter()
        .find(|known| known.to_bytes() == name.as_bytes());
    found.map_or(c"", |name| name.as_c_str()).as_ptr()
}

fn plan_of(plan: &LaunchPlan, mma: Mma) -> GpuPlan {
    let family = FAMILIES.iter().find(|row| row.0 == plan.family);
    GpuPlan {
        kernel: kernel_name(plan.kernel),
        workspace_bytes: plan.workspace_bytes,
        blocks: plan.blocks,
        tile_n: plan.tile_n as u32,
        tile_m: plan.tile_m as u32,
        family: family.expect("every family has a number").1.number(),
        mode: match plan.mode {
            cuda::Mode::Fused => Mode::Fused.number(),
            _ => Mode::Quantized.number(),
        },
        tile: plan.tile,
        launches: plan.launches,
        mma: mma.number(),
        slow_x: plan.slow_x.into(),
        slow_y: plan.slow_y.into(),
        gathers: plan.gathers.into(),
    }
}

impl From<&Problem> for cuda::Problem {
    fn from(problem: &Problem) -> Self {
        let sizes = (problem.m, problem.n, problem.k);
        Self::new(sizes, problem.choice.width, problem.grouping)
            .with_quantized(problem.choice.quantized())
            .with_act_order(problem.has_order)
            .with_options(problem.choice.into())
    }
}

pub fn plan(problem: &Problem) -> Result<GpuPlan> {
    Ok(plan_of(&cuda::Problem::from(problem).plan()?, Mma::None))
}

pub fn workspace_bytes(problem: &Problem) -> Result<usize> {
    Ok(cuda::Problem::from(problem).workspace_bytes()?)
}

pub fn tiles(family: Family) -> Result<u32> {
    cuda::build_info()?;
    Ok(kernel_family(family).tiles())
}

/// Returns the layout of quantized activations for a family.
pub(super) fn layout(of: Family) -> Result<OperandLayout> {
    let layout = match family(of) {
        Some(family) => family.activation_layout(),
        None => Some(OperandLayout::Fragments),
    };
    layout.ok_or_else(|| {
        let text = "no kernel of W4AX_FAMILY_PLAIN reads quantized activations";
        Failure::new(Status::OutOfRange, text)
    })
}

pub fn quantized_bytes(
    (m, k): (usize, usize),
    width: Width,
    grouping: Grouping,
    family: Family,
) -> Result<usize> {
    let layout = layout(family)?;
    let bytes = QuantizedActivations::bytes_for(m, k, width, grouping, layout)?;
    Ok(bytes)
}

impl Block {
    pub(super) fn device_address(&self) -> sys::CUdeviceptr {
        self.address as sys::CUdeviceptr
    }
}

impl Device {
    pub fn open(ordinal: u32) -> Result<Self> {
        let requested = format!("CUDA device {ordinal}");
        let ordinal = ordinal as usize;
        let count = cuda::device_count().map_err(|reason| unavailable(&requested, reason))?;
        if ordinal >= count {
            let reason = Unavailable::NoSuchDevice { ordinal, count };
            return Err(unavailable(&requested, reason));
        }
        let _caller = CallersContext::keep();
        let gpu = InCallersContext::new(Gpu::new(ordinal)?);
        let name = CString::new(gpu.name().replace('\0', "")).unwrap_or_default();
        Ok(Self { gpu, name })
    }

    pub fn info(&self) -> GpuInfo {
        let (major, minor) = self.gpu.compute_capability();
        let driver = self.gpu.driver_version();
        GpuInfo {
            name: self.name.as_ptr(),
            ordinal: self.gpu.ordinal() as u32,
            major: major as u32,
            minor: minor as u32,
            driver_major: driver.map_or(0, |v| v.major),
            driver_minor: driver.map_or(0, |v| v.minor),
            reserved: 0,
        }
    }

    pub fn mma(&self, width: Width, family: Family) -> Result<Mma> {
        Ok(mma(self.gpu.mma(width, kernel_family(family))?))
    }

    pub fn upload(&self, weight: &PackedWeight) -> Result<Weight> {
        let _caller = CallersContext::keep();
        Ok(Weight(InCallersContext::new(self.gpu.upload(weight)?)))
    }

    pub fn plan(&self, call: &GemmCall<'_>) -> Result<GpuPlan> {
        // SAFETY: a plan launches nothing and dereferences no address.
        let plan = unsafe { self.with_gemm(call, |gemm, y| self.gpu.plan(gemm, y)) }?;
        let instruction = self.gpu.mma(call.choice.width, plan.family)?;
        Ok(plan_of(&plan, mma(instruction)))
    }

    /// # Safety
    /// `stream` is a live stream, or null.
    pub(super) unsafe fn stream(&self, stream: *mut c_void) -> StreamRef<'_> {
        // SAFETY: passed on; a launch reports a stream of another context.
        unsafe { StreamRef::from_raw(self.gpu.context(), stream.cast()) }
    }

    /// # Safety
    /// Each address is in the memory of this device, with the sizes of [`GemmCall`], until the
    /// launch has ended. The caller orders other accesses. `stream` is a live stream, or null.
    pub unsafe fn gemm(&self, call: &GemmCall<'_>, stream: *mut c_void) -> Result<()> {
        let (device, memory) = (self.gpu.ordinal(), call.workspace);
        // SAFETY: the contract of this function. The workspace overlaps no argument, as the entry
        // point has checked.
        unsafe {
            let mut workspace = Workspace::from_raw(device, memory.device_address(), memory.len);
            let stream = self.stream(stream);
            self.with_gemm(call, |gemm, y| {
                self.gpu.run(stream, gemm, y, &mut workspace)
            })
        }
    }

    /// Calls `run` with the description of a call.
    ///
    /// # Safety
    /// As [`Self::gemm`], for what `run` does.
    unsafe fn with_gemm<R>(
        &self,
        call: &GemmCall<'_>,
        run: impl FnOnce(&Gemm<'_>, &mut DeviceMatMut<'_, half::bf16>) -> w4ax::Result<R>,
    ) -> Result<R> {
        let device = self.gpu.ordinal();
        let &GemmCall {
            m, n, k, choice, ..
        } = call;
        let weight = &*call.weight.0;
        // SAFETY: passed on.
        let mut y = unsafe { DeviceMatMut::from_raw(device, call.y as _, m, n, call.y_stride) };
        let bias = (call.bias != 0)
            // SAFETY: passed on.
            .then(|| unsafe { DeviceVecRef::from_raw(device, call.bias as _, n) });
        let (x, quantized);
        let gemm = if choice.quantized() {
            let memory = call.quantized;
            let layout = ActivationLayout::new(weight.grouping())
                .with_operand(layout(choice.family)?)
                .with_gathered(weight.order().is_some());
            // SAFETY: passed on.
            quantized = unsafe {
                let address = memory.device_address();
                let (shape, width) = ((m, k), choice.width);
                QuantizedActivations::from_raw_filled(
                    device, address, memory.len, shape, width, layout,
                )?
            };
            Gemm::quantized(&quantized, weight)?
        } else {
            // SAFETY: passed on.
            x = unsafe { DeviceMatRef::from_raw(device, call.x as _, m, k, call.x_stride) };
            match call.gathered {
                true => Gemm::gathered(&x, weight, choice.width),
                false => Gemm::new(&x, weight, choice.width),
            }
        };
        let gemm = gemm.bias(bias.as_ref()).options(choice.into());
        Ok(run(&gemm, &mut y)?)
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn quantize(&self, call: &QuantizeCall, stream: *mut c_void) -> Result<()> {
        let (device, memory) = (self.gpu.ordinal(), call.quantized);
        let layout = ActivationLayout::new(call.grouping)
            .with_operand(layout(call.family)?)
            .with_pdl(call.pdl);
        // SAFETY: the contract of this function. x and `quantized` do not overlap, as the entry
        // point has checked.
        unsafe {
            let x = DeviceMatRef::from_raw(device, call.x as _, call.m, call.k, call.x_stride);
            let address = memory.device_address();
            let mut quantized = QuantizedActivations::from_raw(device, address, memory.len);
            let stream = self.stream(stream);
            self.gpu
                .quantize(stream, &x, call.width, layout, &mut quantized)?;
        }
        Ok(())
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn gather(&self, call: &GatherCall<'_>, stream: *mut c_void) -> Result<()> {
        let (device, m, k) = (self.gpu.ordinal(), call.m, call.k);
        let order = call.weight.0.order().ok_or_else(|| {
            let text = "weight has no order of k";
            Failure::new(Status::OutOfRange, text)
        })?;
        // SAFETY: the contract of this function. x and `gathered` do not overlap, as the entry
        // point has checked.
        unsafe {
            let x = DeviceMatRef::from_raw(device, call.x as _, m, k, call.x_stride);
            let address = call.gathered as sys::CUdeviceptr;
            let mut gathered = DeviceMatMut::from_raw(device, address, m, k, call.gathered_stride);
            let stream = self.stream(stream);
            Ok(self
                .gpu
                .gather_with_pdl(stream, order, &x, &mut gathered, call.pdl)?)
        }
    }
}

impl Weight {
    pub fn info(&self) -> WeightInfo {
        let w = &self.0;
        WeightInfo {
            n: w.n(),
            k: w.k(),
            groups: w.grouping().groups(w.k()),
            bytes: w.bytes(),
            grouping: w.grouping().number(),
            symmetry: symmetry_number(w.is_symmetric()),
            scale_type: w.scale_type().number(),
            has_order: w.order().is_some().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::GPU_DECODE_MAX_M;

    /// The headers allow it.
    #[test]
    fn handles_can_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Device>();
        shared::<Weight>();
    }

    #[test]
    fn limits_match_those_of_the_kernels() {
        assert_eq!(GPU_DECODE_MAX_M, cuda::Family::DECODE_MAX_M);
    }
}
