//! The extents and strides that the kernels support.

use crate::cuda::sys;
use crate::weights::MAX_PER_CHANNEL_K;
use crate::{Error, Grouping, Result};

/// M, N or K as the kernel library takes it.
pub(crate) fn extent(what: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|v| (1..=sys::W4AXK_MAX_EXTENT).contains(v))
        .ok_or_else(|| Error::Range {
            what,
            value: value.to_string(),
            range: "1..=8388608",
        })
}

/// K of a weight with this grouping as the kernel library takes it.
pub(crate) fn inputs(k: usize, grouping: Grouping) -> Result<u32> {
    if grouping == Grouping::PerChannel && k > MAX_PER_CHANNEL_K {
        return Err(Error::Range {
            what: "K of a per-channel or two-level weight",
            value: k.to_string(),
            range: "1..=65536",
        });
    }
    extent("K", k)
}

/// A row stride in elements as the kernel library takes it.
pub(crate) fn stride(what: &'static str, value: usize) -> Result<i64> {
    i64::try_from(value)
        .ok()
        .filter(|&v| v <= i64::from(sys::W4AXK_MAX_STRIDE))
        .ok_or_else(|| Error::Range {
            what,
            value: value.to_string(),
            range: "0..=536870912",
        })
}

/// The stride of BF16 rows that start at multiples of 16 bytes, in elements.
pub(crate) const fn aligned_stride(k: usize) -> usize {
    k.next_multiple_of(8)
}

/// Bytes of gathered BF16 activations `[m, k]` at the start of a workspace. The rest stays aligned
/// to 128 bytes.
pub(crate) const fn gathered_bytes(m: usize, k: usize) -> usize {
    (2 * m * aligned_stride(k)).next_multiple_of(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_extents_out_of_range() {
        assert_eq!(extent("M", 1).unwrap(), 1);
        for value in [0, 8_388_609, usize::MAX] {
            assert!(stride("x", value).is_ok() == (value < 536_870_913));
            assert!(matches!(
                extent("M", value),
                Err(Error::Range { what: "M", .. })
            ));
        }
        assert!(inputs(65_537, Grouping::G32).is_ok());
        assert!(inputs(65_536, Grouping::PerChannel).is_ok());
        let long = inputs(65_537, Grouping::PerChannel);
        assert!(matches!(long, Err(Error::Range { .. })));
    }
}
