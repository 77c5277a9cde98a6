//! A GEMM by its sizes, for plans without a device.

use super::limits::{aligned_stride, extent, gathered_bytes, inputs};
use super::options::GemmOptions;
use super::plan::LaunchPlan;
use super::table::{DeviceKernelTable, DeviceProps, KernelTable};
use crate::cuda::Family;
use crate::cuda::sys::enums::{grouping_code, scheme_code, width_code};
use crate::cuda::{Gpu, sys};
use crate::{Grouping, Result, Scheme, Width};

/// A GEMM by its sizes, to plan its launches. It needs no device.
///
/// ```
/// use w4ax::cuda::{DeviceProps, Problem};
/// use w4ax::{Grouping, Width};
/// let (m, n, k) = (1, 4096, 4096);
/// match Problem::new((m, n, k), Width::A4, Grouping::G128).plan_for(&DeviceProps::A100) {
///     Ok(plan) => println!("{plan}"),
///     Err(error) => println!("{error}"), // A build without kernels.
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    m: usize,
    n: usize,
    k: usize,
    width: Option<Width>,
    scheme: Scheme,
    grouping: Grouping,
    quantized: bool,
    act_order: bool,
    options: GemmOptions,
}

impl Problem {
    /// A GEMM of `m` tokens, `n` output channels and `k` inputs.
    ///
    /// A width of `None` is one that a [`Latch`](crate::cuda::Latch) holds: a routed kernel runs.
    pub fn new(
        (m, n, k): (usize, usize, usize),
        width: impl Into<Option<Width>>,
        grouping: Grouping,
    ) -> Self {
        Self {
            m,
            n,
            k,
            width: width.into(),
            scheme: Scheme::Grouped,
            grouping,
            quantized: false,
            act_order: false,
            options: GemmOptions::default(),
        }
    }

    /// The same GEMM with another number of tokens.
    #[must_use]
    pub fn with_m(self, m: usize) -> Self {
        Self { m, ..self }
    }

    /// The same GEMM with another number of output channels.
    #[must_use]
    pub fn with_n(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// The same GEMM with a weight of another scheme. The default is [`Scheme::Grouped`].
    #[must_use]
    pub fn with_scheme(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    /// The same GEMM with other options.
    #[must_use]
    pub fn with_options(self, options: GemmOptions) -> Self {
        Self { options, ..self }
    }

    /// Whether the activations are quantized already, for the wgmma family if the options select
    /// it, and otherwise for decode and prefill.
    #[must_use]
    pub fn with_quantized(self, quantized: bool) -> Self {
        Self { quantized, ..self }
    }

    /// Whether the weight has an order of k, so that the activations are gathered first.
    #[must_use]
    pub fn with_act_order(self, act_order: bool) -> Self {
        Self { act_order, ..self }
    }

    /// Number of tokens.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The width of the activations; `None` if a latch holds it.
    pub fn width(&self) -> Option<Width> {
        self.width
    }

    /// The arithmetic of the weight.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// How the weights share scales, or steps of a two-level weight.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Whether the activations are quantized already.
    pub fn quantized(&self) -> bool {
        self.quantized
    }

    /// The options.
    pub fn options(&self) -> GemmOptions {
        self.options
    }

    /// Plans the GEMM on an A100, for rows of x and y that are aligned to 16 bytes.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for an extent, family or tile that the kernels do not
    /// support, or two-level weights without groups,
    /// [`Error::Unavailable`](crate::Error::Unavailable) in a build without kernels.
    pub fn plan(&self) -> Result<LaunchPlan> {
        self.plan_for(&DeviceProps::A100)
    }

    /// Plans the GEMM on a device with these properties, by the built-in [`KernelTable`].
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn plan_for(&self, props: &DeviceProps) -> Result<LaunchPlan> {
        // Not the number of a device.
        self.plan_on(-1, &KernelTable::built_in().for_device(props))
    }

    /// Returns the bytes of workspace that are enough on every device and with every table, also
    /// for fewer tokens, narrower widths, fewer inputs and any N. Often 0.
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn workspace_bytes(&self) -> Result<usize> {
        let options = self.options;
        let own = self.plan()?.workspace_bytes;
        if self.quantized || options.fused() == Some(true) {
            return Ok(own);
        }
        let bytes = |family: Option<Family>| -> Result<usize> {
            let options = options.with_family(family).with_fused(false);
            Ok(self.with_options(options).plan()?.workspace_bytes)
        };
        let most = own.max(bytes(options.family())?);
        // A device with wgmma may select that family instead.
        let wgmma = options.family().is_none() && options.tile().is_none();
        Ok(if wgmma && self.m > 2 {
            most.max(bytes(Some(Family::Wgmma))?)
        } else {
            most
        })
    }

    /// Plans the GEMM on the device of this number.
    fn plan_on(&self, device: i32, table: &DeviceKernelTable) -> Result<LaunchPlan> {
        let n = extent("N", self.n)?;
        let k = inputs(self.k, self.scheme.activation_grouping(self.grouping))?;
        let mut args = sys::w4axk_gemm_args {
            weight: sys::w4axk_weight {
                n,
                k,
                group: grouping_code(self.grouping),
                scale_type: sys::W4AXK_SCALE_F32,
                scheme: scheme_code(self.scheme),
                ..Default::default()
            },
            x_stride: aligned_stride(self.k) as i64,
            y_stride: aligned_stride(self.n) as i64,
            m: extent("M", self.m)?,
            width: width_code(self.width),
            device,
            ..Default::default()
        };
        self.options.write(self.quantized, &mut args);
        table.fill(&self.options, &mut args);
        let plan = LaunchPlan::of(&args)?;
        Ok(match self.act_order && !self.quantized {
            true => plan.after_gather(gathered_bytes(self.m, self.k)),
            false => plan,
        })
    }
}

impl Gpu {
    /// Plans a GEMM of these sizes on this device.
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn plan_problem(&self, problem: &Problem) -> Result<LaunchPlan> {
        problem.plan_on(self.number(), self.table())
    }
}
