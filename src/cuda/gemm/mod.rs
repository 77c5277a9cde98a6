//! GEMMs on a device: the description of a call, the choice of its kernel, and its launches.
//!
//! A call passes these files in order: `call` describes it, `options` and `table` select a kernel,
//! `plan` and `problem` plan it without a launch, `launch` runs it. `gather`, `quantize` and
//! `row_op` prepare activations for several calls.

mod activations;
mod call;
mod gather;
mod launch;
pub(super) mod limits;
mod options;
mod plan;
mod problem;
mod quantize;
mod row_op;
pub(super) mod table;
mod width;
mod workspace;

pub use activations::{ActivationLayout, QuantizedActivations};
pub use call::Gemm;
pub use options::GemmOptions;
pub use plan::LaunchPlan;
pub use problem::Problem;
pub use row_op::{AddRmsNorm, HiddenState, HiddenStateMut, RmsNorm, SiluMul};
pub use table::{DeviceProps, KernelTable};
pub use workspace::Workspace;
