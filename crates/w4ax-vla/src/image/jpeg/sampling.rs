//! Chroma of half the width and half the height.

use super::{BLOCK, Plane};

/// Takes the mean of 2x2 pixels. Sums of 4 are rounded with a bias of 1 in even columns and 2 in
/// odd ones, so that ties go down and up in turn.
///
/// The result is wider than half the input: it ends with a whole block, because the last column is
/// repeated before the mean is taken.
pub(super) fn downsample(plane: &Plane) -> Plane {
    let width = plane.width.div_ceil(2).next_multiple_of(BLOCK);
    let height = plane.height.div_ceil(2);
    let mut data = Vec::with_capacity(width * height);
    for y in 0..height {
        let row = |y: usize| &plane.data[y.min(plane.height - 1) * plane.width..][..plane.width];
        let (above, below) = (row(2 * y), row(2 * y + 1));
        data.extend((0..width).map(|x| {
            let (left, right) = (
                (2 * x).min(plane.width - 1),
                (2 * x + 1).min(plane.width - 1),
            );
            let samples = [above[left], above[right], below[left], below[right]];
            let sum: u16 = samples.map(u16::from).iter().sum();
            ((sum + 1 + (x as u16 & 1)) >> 2) as u8
        }));
    }
    Plane {
        width,
        height,
        data,
    }
}

/// Doubles both sides of a plane with a triangle filter, and crops to `width` and `height`. The
/// nearest sample has a weight of 9/16, its neighbors 3/16, 3/16 and 1/16. A plane of one or two
/// columns is repeated instead.
pub(super) fn upsample(plane: &Plane, width: usize, height: usize) -> Plane {
    let mut data = Vec::with_capacity(width * height);
    let row = |y: usize| &plane.data[y * plane.width..][..plane.width];
    for y in 0..height {
        let near = row(y / 2);
        if plane.width <= 2 {
            data.extend((0..width).map(|x| near[x / 2]));
            continue;
        }
        let far = row(neighbor(y, plane.height));
        // Four times the sample between the two rows.
        let sum = |x: usize| 3 * u16::from(near[x]) + u16::from(far[x]);
        data.extend((0..width).map(|x| {
            let bias = 8 - (x as u16 & 1);
            ((3 * sum(x / 2) + sum(neighbor(x, plane.width)) + bias) >> 4) as u8
        }));
    }
    Plane {
        width,
        height,
        data,
    }
}

/// The second nearest of `len` samples to position `i` of twice as many: the one before for even
/// positions and the one after for odd ones, within the plane.
fn neighbor(i: usize, len: usize) -> usize {
    if i.is_multiple_of(2) {
        (i / 2).saturating_sub(1)
    } else {
        (i / 2 + 1).min(len - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_the_last_column_before_the_mean() {
        let plane = Plane {
            width: 3,
            height: 2,
            data: vec![10, 20, 30, 10, 20, 31],
        };
        // Beyond the edge, the sum is 122, and the bias 2 or 1.
        assert_eq!(downsample(&plane).data, [15, 31, 30, 31, 30, 31, 30, 31]);
    }

    #[test]
    fn narrow_planes_are_repeated_and_others_interpolated() {
        let plane = |data: &[u8]| Plane {
            width: data.len(),
            height: 1,
            data: data.to_vec(),
        };
        assert_eq!(upsample(&plane(&[0, 80]), 3, 2).data, [0, 0, 80, 0, 0, 80]);
        let wide = upsample(&plane(&[0, 80, 160]), 6, 1).data;
        assert_eq!(wide, [0, 20, 60, 100, 140, 160]);
    }
}
