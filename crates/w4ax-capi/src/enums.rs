//! The enumerations of the headers: the one table of their numbers.
//!
//! Rust and the test that compares the headers with Rust both take names and numbers from here. A
//! value crosses the ABI as `uint32_t`, so that an unknown number is a status and not undefined
//! behavior.

use w4ax::dispatch::{Algorithm, ConsistencyReason, Profile, Reason};
use w4ax::{Clipping, Grouping, ScaleType, Scheme, Symmetry, Width};

use super::status::{Failure, Result, Status};

/// A Rust value, its number in C and the name of its enumerator in C.
pub type Row<T> = (T, u32, &'static str);

/// A type whose values have numbers in the headers.
pub trait CEnum: Copy + PartialEq + 'static {
    /// The name of the type in C.
    const C_TYPE: &'static str;
    /// The status of a call that passes an unknown number.
    const UNKNOWN: Status = Status::BadEnum;
    /// Every value.
    const ROWS: &'static [Row<Self>];

    /// The number of a value in C.
    fn number(self) -> u32 {
        let row = Self::ROWS.iter().find(|row| row.0 == self);
        row.expect("the table has every value").1
    }
}

impl CEnum for Status {
    const C_TYPE: &'static str = "w4ax_status";
    const ROWS: &'static [Row<Self>] = Status::ROWS;
}

/// The value of a number from C.
pub(super) fn value<T: CEnum>(number: u32) -> Result<T> {
    let row = T::ROWS.iter().find(|row| row.1 == number);
    row.map(|row| row.0).ok_or_else(|| {
        let accepted: Vec<String> = T::ROWS.iter().map(|row| row.1.to_string()).collect();
        let (c_type, accepted) = (T::C_TYPE, accepted.join(", "));
        let text = format!("unknown {c_type} {number}: expected one of {accepted}");
        Failure::new(T::UNKNOWN, text)
    })
}

/// Rows that take their numbers from the table of a Rust type.
macro_rules! numbers {
    ($($c_type:ident: $rust:ty $(, unknown: $unknown:path)? {
        $($enumerator:ident = $number:literal => $value:expr,)*
    })*) => { $(
        impl CEnum for $rust {
            const C_TYPE: &'static str = stringify!($c_type);
            $(const UNKNOWN: Status = $unknown;)?
            const ROWS: &'static [Row<Self>] =
                &[$(($value, $number, stringify!($enumerator)),)*];
        }
    )* };
}

numbers! {
    w4ax_width: Width, unknown: Status::BadWidth {
        W4AX_A2 = 2 => Width::A2,
        W4AX_A4 = 4 => Width::A4,
        W4AX_A8 = 8 => Width::A8,
        W4AX_BF16 = 16 => Width::Bf16,
    }
    w4ax_grouping: Grouping {
        W4AX_PER_CHANNEL = 0 => Grouping::PerChannel,
        W4AX_G32 = 32 => Grouping::G32,
        W4AX_G64 = 64 => Grouping::G64,
        W4AX_G128 = 128 => Grouping::G128,
    }
    w4ax_symmetry: Symmetry {
        W4AX_SYMMETRIC = 0 => Symmetry::Symmetric,
        W4AX_ASYMMETRIC = 1 => Symmetry::Asymmetric,
    }
    w4ax_scheme: Scheme {
        W4AX_GROUPED = 0 => Scheme::Grouped,
        W4AX_TWO_LEVEL = 1 => Scheme::TwoLevel,
    }
    w4ax_clipping: Clipping {
        W4AX_ABSMAX = 0 => Clipping::AbsMax,
        W4AX_SQUARED_ERROR = 1 => Clipping::SquaredError,
    }
    w4ax_type: ScaleType {
        W4AX_TYPE_F32 = 0 => ScaleType::F32,
        W4AX_TYPE_F16 = 1 => ScaleType::F16,
        W4AX_TYPE_BF16 = 2 => ScaleType::Bf16,
    }
    w4ax_algorithm: Algorithm {
        W4AX_SATURATING_COUNTER = 0 => Algorithm::SaturatingCounter,
        W4AX_WINDOW = 1 => Algorithm::Window,
    }
    w4ax_reason: ReasonKind {
        W4AX_REASON_START = 0 => ReasonKind::Start,
        W4AX_REASON_FAULT = 1 => ReasonKind::Fault,
        W4AX_REASON_STEADY = 2 => ReasonKind::Steady,
        W4AX_REASON_ROSE = 3 => ReasonKind::Rose,
        W4AX_REASON_HELD = 4 => ReasonKind::Held,
        W4AX_REASON_STEPPED_DOWN = 5 => ReasonKind::SteppedDown,
    }
    w4ax_profile: Profile {
        W4AX_PROFILE_LOW = 0 => Profile::Low,
        W4AX_PROFILE_HIGH = 1 => Profile::High,
    }
    w4ax_consistency_reason: ConsistencyReason {
        W4AX_CONSISTENCY_START = 0 => ConsistencyReason::Start,
        W4AX_CONSISTENCY_FAULT = 1 => ConsistencyReason::Fault,
        W4AX_CONSISTENCY_STATIC = 2 => ConsistencyReason::Static,
        W4AX_CONSISTENCY_REFRESH = 3 => ConsistencyReason::Refresh,
        W4AX_CONSISTENCY_NO_UNCERTAINTY = 4 => ConsistencyReason::NoUncertainty,
        W4AX_CONSISTENCY_GATE = 5 => ConsistencyReason::Gate,
        W4AX_CONSISTENCY_TRY = 6 => ConsistencyReason::Try,
    }
    w4ax_family: Family {
        W4AX_FAMILY_AUTO = 0 => Family::Auto,
        W4AX_FAMILY_DECODE = 1 => Family::Decode,
        W4AX_FAMILY_PREFILL = 2 => Family::Prefill,
        W4AX_FAMILY_PLAIN = 3 => Family::Plain,
        W4AX_FAMILY_WGMMA = 4 => Family::Wgmma,
    }
    w4ax_mode: Mode {
        W4AX_MODE_AUTO = 0 => Mode::Auto,
        W4AX_MODE_FUSED = 1 => Mode::Fused,
        W4AX_MODE_QUANTIZED = 2 => Mode::Quantized,
    }
    w4ax_mma: Mma {
        W4AX_MMA_NONE = 0 => Mma::None,
        W4AX_MMA_S4 = 1 => Mma::S4,
        W4AX_MMA_S8 = 2 => Mma::S8,
        W4AX_MMA_BF16 = 3 => Mma::Bf16,
        W4AX_MMA_WGMMA_S8 = 4 => Mma::WgmmaS8,
        W4AX_MMA_WGMMA_BF16 = 5 => Mma::WgmmaBf16,
    }
}

/// Every enumerator of the headers: the name of its type, its own name, and its number.
pub fn table() -> Vec<(&'static str, &'static str, u32)> {
    fn add<T: CEnum>(table: &mut Vec<(&'static str, &'static str, u32)>) {
        table.extend(
            T::ROWS
                .iter()
                .map(|&(_, number, name)| (T::C_TYPE, name, number)),
        );
    }
    let mut table = Vec::new();
    add::<Status>(&mut table);
    add::<Width>(&mut table);
    add::<Grouping>(&mut table);
    add::<Symmetry>(&mut table);
    add::<Scheme>(&mut table);
    add::<Clipping>(&mut table);
    add::<ScaleType>(&mut table);
    add::<Algorithm>(&mut table);
    add::<ReasonKind>(&mut table);
    add::<Profile>(&mut table);
    add::<ConsistencyReason>(&mut table);
    add::<Family>(&mut table);
    add::<Mode>(&mut table);
    add::<Mma>(&mut table);
    table
}

/// `w4ax_reason`: the kind of a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonKind {
    Start,
    Fault,
    Steady,
    Rose,
    Held,
    SteppedDown,
}

impl From<Reason> for ReasonKind {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Start => Self::Start,
            Reason::Fault => Self::Fault,
            Reason::Steady => Self::Steady,
            Reason::Rose => Self::Rose,
            Reason::Held { .. } => Self::Held,
            Reason::SteppedDown => Self::SteppedDown,
            other => unreachable!("reason {other:?} has no number"),
        }
    }
}

/// `w4ax_family`. The type of w4ax itself exists with feature `cuda` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Auto,
    Decode,
    Prefill,
    Plain,
    Wgmma,
}

/// `w4ax_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    Fused,
    Quantized,
}

/// `w4ax_mma`. The type of w4ax itself exists with feature `cuda` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mma {
    None,
    S4,
    S8,
    Bf16,
    WgmmaS8,
    WgmmaBf16,
}

/// Returns which of the accepted bits are set in `flags`. Any other bit is an error.
pub(super) fn flags<const N: usize>(flags: u32, accepted: [u32; N]) -> Result<[bool; N]> {
    let all = accepted.iter().fold(0, |all, bit| all | bit);
    if flags & !all != 0 {
        let text = format!("unknown flags {flags:#x}: expected bits of {all:#x}");
        return Err(Failure::new(Status::BadEnum, text));
    }
    Ok(accepted.map(|bit| flags & bit != 0))
}

/// Refuses a reserved field that is not 0, because a later version may give it a meaning.
pub(super) fn reserved(value: u32) -> Result<()> {
    match value {
        0 => Ok(()),
        _ => Err(Failure::new(
            Status::BadEnum,
            format!("reserved field is {value}: expected 0"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_values_correspond() {
        fn check<T: CEnum + std::fmt::Debug>() {
            for &(value, number, name) in T::ROWS {
                assert_eq!(value.number(), number, "{name}");
                assert_eq!(super::value::<T>(number).unwrap(), value, "{name}");
                assert!(name.starts_with("W4AX_"), "{name}");
            }
            assert_eq!(super::value::<T>(99).unwrap_err().status, T::UNKNOWN);
        }
        check::<Status>();
        check::<Width>();
        check::<Grouping>();
        check::<Symmetry>();
        check::<Scheme>();
        check::<Clipping>();
        check::<ScaleType>();
        check::<Algorithm>();
        check::<ReasonKind>();
        check::<Profile>();
        check::<ConsistencyReason>();
        check::<Family>();
        check::<Mode>();
        check::<Mma>();
        assert_eq!(Width::ROWS.len(), Width::ALL.len());
        assert_eq!(Grouping::ROWS.len(), Grouping::ALL.len());
        assert_eq!(Scheme::ROWS.len(), Scheme::ALL.len());
        assert_eq!(Clipping::ROWS.len(), Clipping::ALL.len());
    }

    #[test]
    fn unknown_numbers_are_reported_with_the_accepted_ones() {
        let failure = value::<Width>(3).unwrap_err();
        assert_eq!(failure.status, Status::BadWidth);
        assert_eq!(
            failure.text,
            "unknown w4ax_width 3: expected one of 2, 4, 8, 16"
        );
        assert_eq!(flags(4, [1, 2]).unwrap_err().status, Status::BadEnum);
        assert_eq!(flags(2, [1, 2]).unwrap(), [false, true]);
    }
}
