//! 8-bit RGB images, and how files become them.

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use ::image::error::{ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use ::image::{DynamicImage, ImageError, ImageFormat, ImageReader};

use crate::{Result, VlaError};

/// An RGB image of 8 bits per channel with at least one pixel.
///
/// ```
/// use w4ax_vla::image::RgbImage;
///
/// let gray = RgbImage::from_channels(2, 1, 1, &[0, 200])?;
/// assert_eq!(gray.data(), [0, 0, 0, 200, 200, 200]);
/// # Ok::<(), w4ax_vla::VlaError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    /// [height, width, 3]
    data: Vec<u8>,
}

impl fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RgbImage")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

impl RgbImage {
    /// Makes an image of its bytes, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`VlaError::Input`] if a side is 0 or if `data` has another length.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self> {
        check_length(width, height, 3, data.len())?;
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// Makes an image of bytes `[height, width, channels]` with 1 channel (gray), 3 (RGB) or 4
    /// (RGBA). Gray is replicated and alpha is dropped, not blended, as `convert("RGB")` of Pillow
    /// does.
    ///
    /// # Errors
    /// [`VlaError::Input`] if a side is 0, if `data` has another length, or for another number of
    /// channels.
    pub fn from_channels(
        width: usize,
        height: usize,
        channels: usize,
        data: &[u8],
    ) -> Result<Self> {
        if !matches!(channels, 1 | 3 | 4) {
            return Err(VlaError::Input {
                what: "number of channels of an image",
                got: channels.to_string(),
                expected: "1 (gray), 3 (RGB) or 4 (RGBA)".into(),
            });
        }
        Self::from_samples(width, height, channels, data)
    }

    /// Reads a PNG or JPEG file. The format is found by its first bytes, not by its name.
    ///
    /// # Errors
    /// [`VlaError::Io`] if the file cannot be read, and the errors of [`RgbImage::decode`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| VlaError::io(path, e))?;
        Self::decode(&bytes, &path.display().to_string())
    }

    /// Decodes the bytes of a PNG or JPEG file. `name` stands for the file in errors.
    ///
    /// Pixels are converted as `Image.open(file).convert("RGB")` of Pillow does: palettes are
    /// expanded, gray is replicated, alpha is dropped, and of 16 bits per channel the upper 8 are
    /// taken. PNG is lossless, so that the result is Pillow's. Decoders of JPEG differ by a few
    /// counts from each other.
    ///
    /// # Errors
    /// [`VlaError::Image`] if the bytes are not a complete PNG or JPEG file, or if the image has
    /// one 16-bit gray channel: Pillow clips such values at 255 instead of scaling them, and its
    /// versions differ.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        let fail = |source| VlaError::Image {
            file: name.to_owned(),
            source,
        };
        let reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|e| VlaError::io(name, e))?;
        let format = reader.format();
        let decoded = reader.decode().map_err(fail)?;
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        match &decoded {
            DynamicImage::ImageLuma8(x) => Self::from_samples(width, height, 1, x.as_raw()),
            DynamicImage::ImageLumaA8(x) => Self::from_samples(width, height, 2, x.as_raw()),
            DynamicImage::ImageRgb8(x) => Self::from_samples(width, height, 3, x.as_raw()),
            DynamicImage::ImageRgba8(x) => Self::from_samples(width, height, 4, x.as_raw()),
            DynamicImage::ImageLumaA16(x) => Self::from_upper(width, height, 2, x.as_raw()),
            DynamicImage::ImageRgb16(x) => Self::from_upper(width, height, 3, x.as_raw()),
            DynamicImage::ImageRgba16(x) => Self::from_upper(width, height, 4, x.as_raw()),
            other => Err(fail(unsupported_color(format, other))),
        }
    }

    /// `channels` is 1 to 4; the second of 2 channels is alpha.
    fn from_samples(width: usize, height: usize, channels: usize, data: &[u8]) -> Result<Self> {
        check_length(width, height, channels, data.len())?;
        let data = match channels {
            3 => data.to_vec(),
            4 => data
                .chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect(),
            _ => data
                .chunks_exact(channels)
                .flat_map(|p| [p[0]; 3])
                .collect(),
        };
        Self::new(width, height, data)
    }

    fn from_upper(width: usize, height: usize, channels: usize, data: &[u16]) -> Result<Self> {
        let upper: Vec<u8> = data.iter().map(|x| (x >> 8) as u8).collect();
        Self::from_samples(width, height, channels, &upper)
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns the bytes, `[height, width, 3]`.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The bytes of row `y`, `[width, 3]`.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..][..self.width * 3]
    }

    /// An image of bytes whose length the caller knows to be right.
    pub(super) fn from_valid(width: usize, height: usize, data: Vec<u8>) -> Self {
        debug_assert!(width > 0 && height > 0 && data.len() == width * height * 3);
        Self {
            width,
            height,
            data,
        }
    }
}

/// Checks that the sides of an image that is to be computed are not 0.
///
/// # Errors
/// [`VlaError::Input`] if one is.
pub(super) fn check_size(width: usize, height: usize) -> Result<()> {
    if width > 0 && height > 0 {
        return Ok(());
    }
    Err(VlaError::Input {
        what: "size of an image",
        got: format!("{width}x{height}"),
        expected: "at least 1x1".into(),
    })
}

fn check_length(width: usize, height: usize, channels: usize, len: usize) -> Result<()> {
    check_size(width, height)?;
    let expected = width
        .checked_mul(height)
        .and_then(|n| n.checked_mul(channels));
    if expected == Some(len) {
        return Ok(());
    }
    Err(VlaError::Input {
        what: "length of the data of an image",
        got: format!("{len} bytes"),
        expected: match expected {
            Some(n) => format!("{n} bytes, {height}x{width}x{channels}"),
            None => format!("{height}x{width}x{channels} bytes, which no memory holds"),
        },
    })
}

fn unsupported_color(format: Option<ImageFormat>, image: &DynamicImage) -> ImageError {
    let hint = format.map_or(ImageFormatHint::Unknown, ImageFormatHint::Exact);
    let color = image.color().into();
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(
        hint,
        UnsupportedErrorKind::Color(color),
    ))
}
