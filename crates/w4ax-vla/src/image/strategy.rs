//! How an image of any size becomes the square that a vision tower takes.

use super::pillow::{BICUBIC, Canvas, Window, resample};
use super::rgb::RgbImage;

/// How an image of any size becomes the square that a vision tower takes
/// (`image_resize_strategy` of `preprocessor_config.json`). All of them resize as
/// [`resize_bicubic`](super::pillow::resize_bicubic) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeStrategy {
    /// `resize-naive`: both sides become that of the square, and the aspect ratio changes. The
    /// strategy of OpenVLA and OpenVLA-OFT.
    ResizeNaive,
    /// `letterbox`: a border makes the image square before it is resized. The border on the left
    /// is as wide as that on the right, so that an odd difference of the sides leaves the image
    /// one pixel off a square; a center crop follows.
    Letterbox {
        /// The color of the border: 255 times the mean of the last tower, truncated.
        fill: [u8; 3],
    },
    /// `resize-crop`: the shorter side becomes that of the square, and a center crop follows.
    ResizeCrop,
}

impl ResizeStrategy {
    /// Resizes to a square of `size` pixels, [size, size, 3]. `size` is at least 1.
    pub(super) fn resize(self, image: &RgbImage, size: usize) -> RgbImage {
        let canvas = match self {
            Self::Letterbox { fill } => letterbox(image, fill),
            Self::ResizeNaive | Self::ResizeCrop => Canvas::without_border(image),
        };
        let (width, height) = match self {
            Self::ResizeNaive => (size, size),
            Self::Letterbox { .. } | Self::ResizeCrop => {
                shorter_side_to(size, canvas.width, canvas.height)
            }
        };
        if (width, height) == (image.width(), image.height()) && width == height {
            return image.clone();
        }
        let window = Window {
            left: crop_offset(width, size),
            top: crop_offset(height, size),
            width: size,
            height: size,
        };
        resample(&canvas, &BICUBIC, (width, height), &window)
    }
}

fn letterbox(image: &RgbImage, fill: [u8; 3]) -> Canvas<'_> {
    let (width, height) = (image.width(), image.height());
    let longer = width.max(height);
    let (left, top) = ((longer - width) / 2, (longer - height) / 2);
    Canvas {
        image,
        left,
        top,
        width: width + 2 * left,
        height: height + 2 * top,
        fill,
    }
}

/// Width and height after the shorter side is resized to `size`.
fn shorter_side_to(size: usize, width: usize, height: usize) -> (usize, usize) {
    if width <= height {
        (size, size * height / width)
    } else {
        (size * width / height, size)
    }
}

/// `round((len - size) / 2)`, where a half goes to the even neighbor. `len` is at least `size`.
fn crop_offset(len: usize, size: usize) -> usize {
    let excess = len - size;
    let half = excess / 2;
    half + (excess % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_a_pixel_of_crop_offset_to_even() {
        let offsets: Vec<usize> = (4..=11).map(|len| crop_offset(len, 4)).collect();
        assert_eq!(offsets, [0, 0, 1, 2, 2, 2, 3, 4]);
    }
}
