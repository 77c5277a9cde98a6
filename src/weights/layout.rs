//! The tile layout of every backend and width: 16 output channels by 64 k, 512 bytes.
//!
//! A tile is the A operand of a tensor-core `mma` as its 32 lanes hold it (PTX ISA, section "Matrix
//! Fragments for mma"): lane `4g + t` (`g` in 0..8, `t` in 0..4) owns four consecutive 32-bit words
//! `r = 0..4`, and nibble `i = 0..8` of word `r` is the two's complement INT4
//!
//! ```text
//! qw[g + 8*(r & 1)][32*(r >> 1) + 16*((i >> 1) & 1) + 8*(i & 1) + 2*t + (i >> 2)]
//! ```
//!
//! With `h = r >> 1` a half of 32 k:
//! - **s4** `m16n8k64` takes the four words unchanged; group 32 passes words `2h, 2h+1` to
//!   `m16n8k32`;
//! - **s8** `m16n8k32` takes the even nibbles (`(r << 4) & 0xF0F0F0F0`) and the odd ones (`r &
//!   0xF0F0F0F0`): `16*w` in s8;
//! - **bf16** `m16n8k16` takes nibbles `(2m, 2m+4)` and `(2m+1, 2m+5)`; its B operand is in natural
//!   k order;
//! - a **CPU vector** of 64 bytes is one `g`: words `4t + r`, rows `g` and `g + 8`.
//!
//! Tiles are stored `[ceil(N/16)][ceil(K/64)]`, K fastest. Rows and k beyond N and K hold 0.

/// Output channels of a tile.
pub const TILE_N: usize = 16;
/// k of a tile.
pub const TILE_K: usize = 64;

/// 16 output channels x 64 k of INT4, in the order of the [module page](self).
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Tile(pub [u32; 128]);

/// Returns the position of `qw[row][k]` in a tile: its word, of 128, and its nibble in the word, of
/// 8.
///
/// `row` must be below 16 and `k` below 64.
pub const fn position(row: usize, k: usize) -> (usize, u32) {
    debug_assert!(row < TILE_N && k < TILE_K);
    let (g, row_high) = (row & 7, row >> 3);
    let (half, k32) = (k >> 5, k & 31);
    let t = (k32 >> 1) & 3;
    let nibble = 4 * (k32 & 1) + 2 * (k32 >> 4) + ((k32 >> 3) & 1);
    (16 * g + 4 * t + 2 * half + row_high, nibble as u32)
}

/// Returns the byte of `qa[k]` among the 64 bytes of a k-tile of quantized activations on the CPU.
///
/// Four activations of one 4-byte dot product are next to each other: byte `b` of quad `8h + 2t +
/// odd` is `k = 32h + 16*(b & 1) + 8*odd + 2t + (b >> 1)`, as the even (odd) nibbles of one word of
/// a tile are.
pub const fn activation_position(k: usize) -> usize {
    let (half, k32) = (k >> 5, k & 31);
    let (c, t, odd, b0) = (k32 & 1, (k32 >> 1) & 3, (k32 >> 3) & 1, k32 >> 4);
    32 * half + 8 * t + 4 * odd + 2 * c + b0
}

impl Tile {
    /// A tile of zeros.
    pub const ZERO: Tile = Tile([0; 128]);

    /// Returns `qw[row][k]`, in [-8, 7].
    pub const fn get(&self, row: usize, k: usize) -> i8 {
        let (word, nibble) = position(row, k);
        // Shift the nibble to the top of a signed byte, then back with its sign.
        ((self.0[word] >> (4 * nibble)) << 4) as u8 as i8 >> 4
    }

    /// Sets `qw[row][k]` to the low four bits of `q`. The nibble must be 0 before.
    pub(crate) const fn put(&mut self, row: usize, k: usize, q: i8) {
        let (word, nibble) = position(row, k);
        self.0[word] |= ((q as u8 & 15) as u32) << (4 * nibble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_the_inverse_of_the_documented_formula() {
        let mut seen = [[0u32; 8]; 128];
        for (g, t, r, i) in (0..8 * 4 * 4 * 8).map(|n| (n >> 7, (n >> 5) & 3, (n >> 3) & 3, n & 7))
        {
            let row = g + 8 * (r & 1);
            let k = 32 * (r >> 1) + 16 * ((i >> 1) & 1) + 8 * (i & 1) + 2 * t + (i >> 2);
            assert_eq!(position(row, k), (4 * (4 * g + t) + r, i as u32));
            seen[4 * (4 * g + t) + r][i] += 1;
        }
        assert!(seen.iter().flatten().all(|&n| n == 1), "a bijection");
    }

    #[test]
    fn put_and_get_are_inverse_everywhere() {
        for q in -8..8i8 {
            for row in 0..TILE_N {
                for k in 0..TILE_K {
                    let mut tile = Tile::ZERO;
                    tile.put(row, k, q);
                    assert_eq!(tile.get(row, k), q);
                    assert_eq!(
                        tile.0.iter().filter(|&&w| w != 0).count(),
                        usize::from(q != 0)
                    );
                }
            }
        }
    }

    #[test]
    fn activation_position_matches_nibbles() {
        // Byte b of quad 8h + 2t + odd goes with nibble 2b + odd of word r, r >> 1 = h, of lane (g,
        // t).
        for k in 0..TILE_K {
            let byte = activation_position(k);
            let (quad, b) = (byte / 4, byte % 4);
            let (half, t, odd) = (quad / 8, (quad / 2) % 4, quad % 2);
            for row in 0..TILE_N {
                let word = 16 * (row & 7) + 4 * t + 2 * half + (row >> 3);
                assert_eq!(position(row, k), (word, (2 * b + odd) as u32));
            }
        }
    }
}
