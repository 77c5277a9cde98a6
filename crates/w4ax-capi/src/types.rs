//! The enumerations of the header. They travel as `uint32_t`, so that an unknown value is a status.

use super::status::{Failure, Result, Status};
use w4ax::dispatch::{Algorithm, Reason};
use w4ax::{Grouping, ScaleType, Symmetry, Width};

pub const PER_CHANNEL: u32 = 0;

pub const SYMMETRIC: u32 = 0;
pub const ASYMMETRIC: u32 = 1;

pub const TYPE_F32: u32 = 0;
pub const TYPE_F16: u32 = 1;
pub const TYPE_BF16: u32 = 2;

pub const SATURATING_COUNTER: u32 = 0;
pub const WINDOW: u32 = 1;

pub const REASON_START: u32 = 0;
pub const REASON_FAULT: u32 = 1;
pub const REASON_STEADY: u32 = 2;
pub const REASON_ROSE: u32 = 3;
pub const REASON_HELD: u32 = 4;
pub const REASON_STEPPED_DOWN: u32 = 5;

pub const FAMILY_AUTO: u32 = 0;
pub const FAMILY_DECODE: u32 = 1;
pub const FAMILY_PREFILL: u32 = 2;
pub const FAMILY_PLAIN: u32 = 3;
pub const FAMILY_WGMMA: u32 = 4;

pub const MODE_AUTO: u32 = 0;
pub const MODE_FUSED: u32 = 1;
pub const MODE_PACKED: u32 = 2;

pub const MMA_NONE: u32 = 0;
pub const MMA_S4: u32 = 1;
pub const MMA_S8: u32 = 2;
pub const MMA_BF16: u32 = 3;
pub const MMA_WGMMA_S8: u32 = 4;
pub const MMA_WGMMA_BF16: u32 = 5;

pub const GPU_PDL: u32 = 1;

fn unknown<T>(what: &str, value: u32) -> Result<T> {
    Err(Failure::new(
        Status::BadEnum,
        format!("{value} is no {what}"),
    ))
}

pub(super) fn width(bits: u32) -> Result<Width> {
    Ok(Width::try_from(bits)?)
}

pub(super) fn grouping(value: u32) -> Result<Grouping> {
    match value {
        PER_CHANNEL => Ok(Grouping::PerChannel),
        32 => Ok(Grouping::G32),
        64 => Ok(Grouping::G64),
        128 => Ok(Grouping::G128),
        _ => unknown("w4ax_grouping", value),
    }
}

pub(super) fn grouping_code(grouping: Grouping) -> u32 {
    grouping.size().map_or(PER_CHANNEL, |size| size as u32)
}

pub(super) fn symmetry(value: u32) -> Result<Symmetry> {
    match value {
        SYMMETRIC => Ok(Symmetry::Symmetric),
        ASYMMETRIC => Ok(Symmetry::Asymmetric),
        _ => unknown("w4ax_symmetry", value),
    }
}

pub(super) fn scale_type(value: u32) -> Result<ScaleType> {
    match value {
        TYPE_F32 => Ok(ScaleType::F32),
        TYPE_F16 => Ok(ScaleType::F16),
        TYPE_BF16 => Ok(ScaleType::Bf16),
        _ => unknown("w4ax_type", value),
    }
}

pub(super) fn scale_type_code(scale_type: ScaleType) -> u32 {
    match scale_type {
        ScaleType::F32 => TYPE_F32,
        ScaleType::F16 => TYPE_F16,
        ScaleType::Bf16 => TYPE_BF16,
    }
}

/// A `w4ax_family`, as it is: a build without feature `cuda` has no type for it.
pub(super) fn family(value: u32) -> Result<u32> {
    match value {
        FAMILY_AUTO..=FAMILY_WGMMA => Ok(value),
        _ => unknown("w4ax_family", value),
    }
}

/// A `w4ax_family` that kernels are of.
pub(super) fn real_family(value: u32) -> Result<u32> {
    match value {
        FAMILY_AUTO => unknown("w4ax_family that kernels are of", value),
        _ => family(value),
    }
}

/// A `w4ax_mode`, as it is.
pub(super) fn mode(value: u32) -> Result<u32> {
    match value {
        MODE_AUTO..=MODE_PACKED => Ok(value),
        _ => unknown("w4ax_mode", value),
    }
}

/// Whether `W4AX_GPU_PDL` is among the flags, and nothing that there is not.
pub(super) fn pdl(flags: u32) -> Result<bool> {
    match flags & !GPU_PDL {
        0 => Ok(flags & GPU_PDL != 0),
        _ => unknown("combination of flags", flags),
    }
}

pub(super) fn algorithm(value: u32) -> Result<Algorithm> {
    match value {
        SATURATING_COUNTER => Ok(Algorithm::SaturatingCounter),
        WINDOW => Ok(Algorithm::Window),
        _ => unknown("w4ax_algorithm", value),
    }
}

pub(super) fn algorithm_code(algorithm: Algorithm) -> u32 {
    match algorithm {
        Algorithm::SaturatingCounter => SATURATING_COUNTER,
        Algorithm::Window => WINDOW,
        other => unreachable!("algorithm {other:?} without a C constant"),
    }
}

pub(super) fn reason_code(reason: Reason) -> u32 {
    match reason {
        Reason::Start => REASON_START,
        Reason::Fault => REASON_FAULT,
        Reason::Steady => REASON_STEADY,
        Reason::Rose => REASON_ROSE,
        Reason::Held { .. } => REASON_HELD,
        Reason::SteppedDown => REASON_STEPPED_DOWN,
        other => unreachable!("reason {other:?} without a C constant"),
    }
}
