//! What evaluation clients of the LIBERO simulator do with a camera picture before the image
//! processor.
//!
//! # Order of steps
//! 1. The picture of the simulator is rotated by 180 degrees ([`rotate_180`]).
//! 2. It is compressed as JPEG and decoded ([`jpeg_round_trip`]), as the training data were.
//! 3. It is resized to 224x224 ([`resize_lanczos3`]).
//! 4. A crop of 90 % of its area is resized to 224x224 ([`center_crop`]), in models that were
//!    trained with random crops, as those of both projects were.
//!
//! The reference is TensorFlow 2.15. Steps 1, 2 and 4 use integers, or f32 in its order of sums,
//! and give its bytes. Step 3 does too on the pictures of the tests, but its weights contain sines:
//! where those of two platforms differ in the last bit, a tie may be rounded to the other side.

pub use super::jpeg::jpeg_round_trip;
pub use super::lanczos::resize_lanczos3;
use super::rgb::RgbImage;

/// Side of the image that the clients send, in pixels.
const SIZE: usize = 224;

/// Rotates an image by 180 degrees.
pub fn rotate_180(image: &RgbImage) -> RgbImage {
    let pixels = image.data().chunks_exact(3).rev();
    let data = pixels.flat_map(|p| [p[0], p[1], p[2]]).collect();
    RgbImage::from_valid(image.width(), image.height(), data)
}

/// Resizes the central 90 % of the area of an image to 224x224, as `tf.image.crop_and_resize` and
/// the conversions between u8 and f32 around it do.
///
/// The crop has `s = sqrt(0.9)` of each side, at an offset of `o = (1 - s) / 2`. Row `i` of the
/// output is at row `o * (height - 1) + i * s * (height - 1) / 223` of the input, between whose two
/// neighbors it is interpolated. Values are f32 in [0, 1]; a byte of the output is
/// `x * 255.5` truncated.
pub fn center_crop(image: &RgbImage) -> RgbImage {
    let rows = crop_positions(image.height());
    let columns = crop_positions(image.width());
    let mut out = Vec::with_capacity(SIZE * SIZE * 3);
    for row in &rows {
        let (top, bottom) = (image.row(row.low), image.row(row.high));
        for column in &columns {
            for channel in 0..3 {
                let (left, right) = (column.low * 3 + channel, column.high * 3 + channel);
                let above = lerp(to_unit(top[left]), to_unit(top[right]), column.fraction);
                let below = lerp(
                    to_unit(bottom[left]),
                    to_unit(bottom[right]),
                    column.fraction,
                );
                let value = lerp(above, below, row.fraction).clamp(0.0, 1.0);
                out.push((value * 255.5) as u8);
            }
        }
    }
    RgbImage::from_valid(SIZE, SIZE, out)
}

/// A position between two pixels of one axis.
struct Position {
    low: usize,
    high: usize,
    /// Distance from `low`, in pixels.
    fraction: f32,
}

fn crop_positions(len: usize) -> Vec<Position> {
    let side = 0.9f32.sqrt();
    let start = (1.0 - side) / 2.0;
    let end = start + side;
    let last = (len - 1) as f32;
    let step = (end - start) * last / (SIZE - 1) as f32;
    (0..SIZE)
        .map(|i| {
            let position = (start * last + i as f32 * step).min(last);
            Position {
                low: position.floor() as usize,
                high: position.ceil() as usize,
                fraction: position - position.floor(),
            }
        })
        .collect()
}

fn to_unit(x: u8) -> f32 {
    f32::from(x) * (1.0 / 255.0)
}

fn lerp(a: f32, b: f32, fraction: f32) -> f32 {
    a + (b - a) * fraction
}

/// The image path of an evaluation client.
///
/// ```
/// use w4ax_vla::image::{RgbImage, libero::LiberoClient};
///
/// let camera = RgbImage::new(256, 256, vec![128; 256 * 256 * 3])?;
/// let image = LiberoClient::openvla().prepare(&camera);
/// assert_eq!((image.width(), image.height()), (224, 224));
/// # Ok::<(), w4ax_vla::VlaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiberoClient {
    rotate: bool,
    center_crop: bool,
    keep_size: bool,
}

impl LiberoClient {
    /// The client of OpenVLA: rotates, and crops.
    pub fn openvla() -> Self {
        Self {
            rotate: true,
            center_crop: true,
            keep_size: false,
        }
    }

    /// The client of OpenVLA-OFT: as [`LiberoClient::openvla`], but an image of 224x224 pixels
    /// skips JPEG and resizing.
    pub fn oft() -> Self {
        Self {
            keep_size: true,
            ..Self::openvla()
        }
    }

    /// Sets whether the image is rotated by 180 degrees. Pictures of the simulator are upside down;
    /// an image from elsewhere, or one that a client has rotated, must not be rotated.
    pub fn with_rotation(mut self, rotate: bool) -> Self {
        self.rotate = rotate;
        self
    }

    /// Sets whether [`center_crop`] is the last step.
    pub fn with_center_crop(mut self, center_crop: bool) -> Self {
        self.center_crop = center_crop;
        self
    }

    /// Sets whether an image of 224x224 pixels skips JPEG and resizing.
    pub fn with_keep_size(mut self, keep_size: bool) -> Self {
        self.keep_size = keep_size;
        self
    }

    /// Returns the image that the client sends to the model, [224, 224, 3].
    pub fn prepare(&self, image: &RgbImage) -> RgbImage {
        let mut image = if self.rotate {
            rotate_180(image)
        } else {
            image.clone()
        };
        if !(self.keep_size && (image.width(), image.height()) == (SIZE, SIZE)) {
            image = super::lanczos::resize_to(&jpeg_round_trip(&image), SIZE, SIZE);
        }
        if self.center_crop {
            image = center_crop(&image);
        }
        image
    }
}
