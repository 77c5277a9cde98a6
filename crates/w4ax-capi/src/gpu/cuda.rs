//! In a build with feature `cuda`: the header's values to the crate's, raw addresses to its matrices, and back.

use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;

use w4ax::cuda::cudarc::driver::{result::ctx, sys};

use super::super::status::{Failure, Result, Status};
use super::{Gather, GpuInfo, GpuPlan, Pack, Problem, Product};
use crate::types;
use crate::weight::WeightInfo;
use w4ax::cuda::{
    self, ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceOrder, DeviceVecRef, DeviceWeight,
    Family, Gemm, GemmOptions, Gpu, LaunchPlan, Mma, Mode, OperandLayout, QuantizedActivations,
    StreamRef, Workspace,
};
use w4ax::{Grouping, KOrder, PackedWeight, Unavailable, Width};

pub struct Device {
    gpu: Gpu,
    /// With a NUL behind.
    name: CString,
}

pub struct Weight(DeviceWeight);

pub struct Order(DeviceOrder);

/// The context that is current in this thread, until the drop: cudarc leaves its own behind.
struct CallersContext(sys::CUcontext);

impl CallersContext {
    /// Not before there is known to be a driver: cudarc panics without.
    fn keep() -> Self {
        let current = ctx::get_current().ok().flatten();
        Self(current.unwrap_or(std::ptr::null_mut()))
    }
}

impl Drop for CallersContext {
    fn drop(&mut self) {
        // SAFETY: it was current in this thread when the call began, or is null for none. If it cannot be had back, it is
        // gone, and the caller's next call will say so.
        let _ = unsafe { ctx::set_current(self.0) };
    }
}

/// Ends a handle.
pub fn end<T>(handle: T) {
    let _caller = CallersContext::keep();
    drop(handle);
}

fn unavailable(asked: &str, problem: Unavailable) -> Failure {
    let status = match &problem {
        Unavailable::NoDriver => Status::NoDriver,
        Unavailable::NoDevice { .. } | Unavailable::NoSuchDevice { .. } => Status::NoDevice,
        Unavailable::DriverTooOld { .. } => Status::DriverTooOld,
        Unavailable::Failed { .. } => Status::CudaFailed,
        // `NotBuilt`, `DeviceTooOld` and `NoKernelImage`.
        _ => Status::NoBackend,
    };
    Failure::new(status, format!("{asked}: {problem}"))
}

pub fn count() -> Result<usize> {
    cuda::device_count().map_err(|problem| unavailable("CUDA", problem))
}

/// `None` for `W4AX_FAMILY_AUTO`.
fn family(code: u32) -> Option<Family> {
    match code {
        types::FAMILY_DECODE => Some(Family::Decode),
        types::FAMILY_PREFILL => Some(Family::Prefill),
        types::FAMILY_PLAIN => Some(Family::Plain),
        types::FAMILY_WGMMA => Some(Family::Wgmma),
        _ => None,
    }
}

fn family_code(family: Family) -> u32 {
    match family {
        Family::Decode => types::FAMILY_DECODE,
        Family::Prefill => types::FAMILY_PREFILL,
        Family::Plain => types::FAMILY_PLAIN,
        Family::Wgmma => types::FAMILY_WGMMA,
        _ => unreachable!("all families are listed"),
    }
}

/// A family that the entry point has checked.
fn real_family(code: u32) -> Result<Family> {
    family(code).ok_or_else(|| Failure::new(Status::BadEnum, format!("{code} is no w4ax_family")))
}

fn mma_code(mma: Mma) -> u32 {
    match mma {
        // This ABI asks at one width always, and there no kernel is routed.
        Mma::None | Mma::Routed => types::MMA_NONE,
        Mma::S4 => types::MMA_S4,
        Mma::S8 => types::MMA_S8,
        Mma::Bf16 => types::MMA_BF16,
        Mma::WgmmaS8 => types::MMA_WGMMA_S8,
        Mma::WgmmaBf16 => types::MMA_WGMMA_BF16,
        _ => types::MMA_NONE,
    }
}

impl From<super::Choice> for GemmOptions {
    fn from(choice: super::Choice) -> Self {
        Self::default()
            .with_family(family(choice.family))
            .with_fused((choice.mode == types::MODE_FUSED).then_some(true))
            .with_tile((choice.tile > 0).then_some(choice.tile))
            .with_pdl(choice.pdl)
    }
}

/// A kernel's name with a NUL behind, for good.
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
    GpuPlan {
        kernel: kernel_name(plan.kernel),
        workspace_bytes: plan.workspace_bytes,
        blocks: plan.blocks,
        tile_n: plan.tile_n as u32,
        tile_m: plan.tile_m as u32,
        family: family_code(plan.family),
        mode: match plan.mode {
            Mode::Fused => types::MODE_FUSED,
            _ => types::MODE_PACKED,
        },
        tile: plan.tile,
        launches: plan.launches,
        mma: mma_code(mma),
        slow_x: plan.slow_x.into(),
        slow_y: plan.slow_y.into(),
        reserved: 0,
    }
}

impl From<&Problem> for cuda::Problem {
    fn from(problem: &Problem) -> Self {
        let shape = (problem.m, problem.n, problem.k);
        Self::new(shape, problem.choice.width, problem.grouping)
            .with_quantized(problem.choice.packed())
            .with_options(problem.choice.into())
    }
}

pub fn plan(problem: &Problem) -> Result<GpuPlan> {
    Ok(plan_of(&cuda::Problem::from(problem).plan()?, Mma::None))
}

pub fn workspace_bytes(problem: &Problem) -> Result<usize> {
    Ok(cuda::Problem::from(problem).workspace_bytes()?)
}

pub fn tiles(family: u32) -> Result<u32> {
    cuda::build_info()?;
    Ok(real_family(family)?.tiles())
}

/// How packed activations lie for a family, or for `W4AX_FAMILY_AUTO`.
fn layout(code: u32) -> Result<OperandLayout> {
    let layout = family(code).map_or(Some(OperandLayout::Fragments), Family::activation_layout);
    let text = "no GEMM of W4AX_FAMILY_PLAIN reads packed activations";
    layout.ok_or_else(|| Failure::new(Status::OutOfRange, text))
}

pub fn packed_bytes(
    (m, k): (usize, usize),
    width: Width,
    grouping: Grouping,
    family: u32,
) -> Result<usize> {
    let layout = layout(family)?;
    Ok(QuantizedActivations::bytes_for(
        m, k, width, grouping, layout,
    )?)
}

impl Device {
    pub fn open(ordinal: u32) -> Result<Self> {
        let asked = format!("CUDA device {ordinal}");
        let ordinal = ordinal as usize;
        let count = cuda::device_count().map_err(|problem| unavailable(&asked, problem))?;
        if ordinal >= count {
            let problem = Unavailable::NoSuchDevice { ordinal, count };
            return Err(unavailable(&asked, problem));
        }
        let _caller = CallersContext::keep();
        let gpu = Gpu::new(ordinal)?;
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

    pub fn mma(&self, width: Width, family: u32) -> Result<u32> {
        Ok(mma_code(self.gpu.mma(width, real_family(family)?)?))
    }

    pub fn upload(&self, weight: &PackedWeight) -> Result<Weight> {
        let _caller = CallersContext::keep();
        Ok(Weight(self.gpu.upload(weight)?))
    }

    pub fn upload_order(&self, order: &KOrder) -> Result<Order> {
        let _caller = CallersContext::keep();
        Ok(Order(self.gpu.upload_order(order)?))
    }

    pub fn plan(&self, product: &Product<'_>) -> Result<GpuPlan> {
        // SAFETY: a plan launches nothing and follows no address.
        let plan = unsafe { self.with(product, |gemm, y| self.gpu.plan(gemm, y)) }?;
        let mma = self.gpu.mma(product.choice.width, plan.family)?;
        Ok(plan_of(&plan, mma))
    }

    /// # Safety
    /// Each address is one of this device's memory, as long as the checks of [`Product`] say, until the launch has ended;
    /// the caller orders what else touches it. `stream` is alive, or null.
    pub unsafe fn gemm(&self, product: &Product<'_>, stream: *mut c_void) -> Result<()> {
        let Product { workspace, .. } = product;
        // SAFETY: the contract of this function. The workspace overlaps nothing, as the entry point has seen.
        unsafe {
            let address = workspace.address as sys::CUdeviceptr;
            let mut workspace = Workspace::from_raw(self.gpu.ordinal(), address, workspace.len);
            self.with(product, |gemm, y| {
                let stream = StreamRef::from_raw(self.gpu.context(), stream.cast());
                self.gpu.run(stream, gemm, y, &mut workspace)
            })
        }
    }

    /// Calls `launch` with the crate's description of a product.
    ///
    /// # Safety
    /// As [`Self::gemm`], for what `launch` does.
    unsafe fn with<R>(
        &self,
        product: &Product<'_>,
        launch: impl FnOnce(&Gemm<'_>, &mut DeviceMatMut<'_, half::bf16>) -> w4ax::Result<R>,
    ) -> Result<R> {
        let device = self.gpu.ordinal();
        let &Product {
            m, n, k, choice, ..
        } = product;
        let weight = &product.weight.0;
        // SAFETY: passed on.
        let mut y =
            unsafe { DeviceMatMut::from_raw(device, product.y as _, m, n, product.y_stride) };
        let bias = (product.bias != 0)
            // SAFETY: passed on.
            .then(|| unsafe { DeviceVecRef::from_raw(device, product.bias as _, n) });
        let (x, packed);
        let gemm = if choice.packed() {
            let (memory, grouping) = (product.packed, weight.grouping());
            let address = memory.address as sys::CUdeviceptr;
            let (shape, width) = ((m, k), choice.width);
            let layout = ActivationLayout::new(grouping).with_operand(layout(choice.family)?);
            // SAFETY: passed on.
            packed = unsafe {
                QuantizedActivations::from_raw_filled(
                    device, address, memory.len, shape, width, layout,
                )?
            };
            Gemm::quantized(&packed, weight)?
        } else {
            // SAFETY: passed on.
            x = unsafe { DeviceMatRef::from_raw(device, product.x as _, m, k, product.x_stride) };
            Gemm::new(&x, weight, choice.width)
        };
        Ok(launch(
            &gemm.bias(bias.as_ref()).options(choice.into()),
            &mut y,
        )?)
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn quantize_pack(&self, pack: &Pack, stream: *mut c_void) -> Result<()> {
        let device = self.gpu.ordinal();
        // SAFETY: the contract of this function. x and `packed` do not overlap, as the entry point has seen.
        unsafe {
            let x = DeviceMatRef::from_raw(device, pack.x as _, pack.m, pack.k, pack.x_stride);
            let address = pack.packed.address as sys::CUdeviceptr;
            let mut packed = QuantizedActivations::from_raw(device, address, pack.packed.len);
            let layout = ActivationLayout::new(pack.grouping)
                .with_operand(layout(pack.family)?)
                .with_pdl(pack.pdl);
            let stream = StreamRef::from_raw(self.gpu.context(), stream.cast());
            self.gpu
                .quantize(stream, &x, pack.width, layout, &mut packed)?;
        }
        Ok(())
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn gather(&self, gather: &Gather<'_>, stream: *mut c_void) -> Result<()> {
        let (device, order) = (self.gpu.ordinal(), &gather.order.0);
        let (m, k) = (gather.m, gather.k);
        // SAFETY: the contract of this function. x and `gathered` do not overlap, as the entry point has seen.
        unsafe {
            let x = DeviceMatRef::from_raw(device, gather.x as _, m, k, gather.x_stride);
            let mut gathered =
                DeviceMatMut::from_raw(device, gather.gathered as _, m, k, gather.gathered_stride);
            let stream = StreamRef::from_raw(self.gpu.context(), stream.cast());
            Ok(self
                .gpu
                .gather_with_pdl(stream, order, &x, &mut gathered, gather.pdl)?)
        }
    }
}

impl Order {
    pub fn k(&self) -> usize {
        self.0.k()
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
            grouping: types::grouping_code(w.grouping()),
            symmetry: match w.is_symmetric() {
                true => types::SYMMETRIC,
                false => types::ASYMMETRIC,
            },
            scale_type: types::scale_type_code(w.scale_type()),
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the header promises.
    #[test]
    fn handles_may_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Device>();
        shared::<Weight>();
        shared::<Order>();
    }
}
