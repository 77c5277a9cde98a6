//! The scales of a weight in their original number type.

use half::{bf16, f16};

/// The number type of weight scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16, the type of most INT4 checkpoints.
    F16,
    /// bfloat16.
    Bf16,
}

/// Weight scales in their original type, so that no bit is lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// IEEE binary32.
    F32(Vec<f32>),
    /// IEEE binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

impl Scales {
    /// Returns the number type.
    pub fn scale_type(&self) -> ScaleType {
        match self {
            Self::F32(_) => ScaleType::F32,
            Self::F16(_) => ScaleType::F16,
            Self::Bf16(_) => ScaleType::Bf16,
        }
    }

    /// Returns the number of scales.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Returns whether there are no scales.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns scale `i` in f32, exactly.
    ///
    /// # Panics
    /// If `i` is out of range.
    #[inline]
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(v) => v[i],
            Self::F16(v) => v[i].to_f32(),
            Self::Bf16(v) => v[i].to_f32(),
        }
    }

    /// Returns the bytes, in the machine's byte order.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
        }
    }

    /// Returns `len` scales, of which scale `i` is scale `at(i)` of these.
    pub(crate) fn pick(&self, len: usize, at: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::F32(v) => Self::F32((0..len).map(|i| v[at(i)]).collect()),
            Self::F16(v) => Self::F16((0..len).map(|i| v[at(i)]).collect()),
            Self::Bf16(v) => Self::Bf16((0..len).map(|i| v[at(i)]).collect()),
        }
    }
}
