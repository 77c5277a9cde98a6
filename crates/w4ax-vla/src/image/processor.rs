//! The image processor: resizing and normalization for each vision tower.

use super::rgb::{RgbImage, check_size};
use super::strategy::ResizeStrategy;
use crate::{Result, VlaError};

/// Mean and standard deviation that a vision tower expects, per channel, of samples in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// The means of red, green and blue.
    pub mean: [f32; 3],
    /// The standard deviations of red, green and blue.
    pub std: [f32; 3],
}

/// The normalized value of each byte, for one channel of one tower.
pub type PixelTable = [f32; 256];

/// Resizes images and normalizes them for one or more vision towers.
///
/// ```
/// use w4ax_vla::image::{ImageProcessor, Normalization, ResizeStrategy, RgbImage};
///
/// let siglip = Normalization { mean: [0.5; 3], std: [0.5; 3] };
/// let processor = ImageProcessor::new(224, ResizeStrategy::ResizeNaive, vec![siglip])?;
/// let black = RgbImage::new(640, 480, vec![0; 640 * 480 * 3])?;
/// assert_eq!(processor.pixel_values(&black), vec![-1.0; 3 * 224 * 224]);
/// # Ok::<(), w4ax_vla::VlaError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageProcessor {
    size: usize,
    strategy: ResizeStrategy,
    /// Three per tower.
    tables: Vec<PixelTable>,
}

impl ImageProcessor {
    /// A processor for towers that take squares of `size` pixels, 224 in all released models. Each
    /// tower has its own normalization; DINOv2 comes before SigLIP.
    ///
    /// # Errors
    /// [`VlaError::Input`] if `size` is 0, if there is no tower, or if a mean or a standard
    /// deviation is not finite, or a standard deviation is not above 0.
    pub fn new(size: usize, strategy: ResizeStrategy, towers: Vec<Normalization>) -> Result<Self> {
        check_size(size, size)?;
        if towers.is_empty() {
            return Err(VlaError::Input {
                what: "number of vision towers",
                got: "0".into(),
                expected: "at least 1".into(),
            });
        }
        for tower in &towers {
            check_normalization(tower)?;
        }
        let channels = towers.iter().flat_map(|t| t.mean.into_iter().zip(t.std));
        let tables = channels.map(|(mean, std)| table(mean, std)).collect();
        Ok(Self {
            size,
            strategy,
            tables,
        })
    }

    /// The side of the resized image in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of channels of [`ImageProcessor::pixel_values`]: three per tower.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// The normalized value of each byte, `(x / 255 - mean) / std` with each operation in f32, for
    /// each channel, `[channels, 256]`.
    pub fn pixel_table(&self) -> &[PixelTable] {
        &self.tables
    }

    /// Resizes an image to `[size, size, 3]`. An image of that size is returned as it is.
    pub fn resize(&self, image: &RgbImage) -> RgbImage {
        self.strategy.resize(image, self.size)
    }

    /// Resizes and normalizes an image, `[channels, size, size]`. The channels are red, green and
    /// blue of the first tower, then those of the next tower.
    pub fn pixel_values(&self, image: &RgbImage) -> Vec<f32> {
        let resized = self.resize(image);
        let mut out = Vec::with_capacity(self.channels() * self.size * self.size);
        for (channel, table) in self.tables.iter().enumerate() {
            let samples = resized.data().iter().skip(channel % 3).step_by(3);
            out.extend(samples.map(|&x| table[usize::from(x)]));
        }
        out
    }
}

fn table(mean: f32, std: f32) -> PixelTable {
    std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std)
}

fn check_normalization(tower: &Normalization) -> Result<()> {
    let finite = tower.mean.iter().chain(&tower.std).all(|x| x.is_finite());
    if finite && tower.std.iter().all(|&x| x > 0.0) {
        return Ok(());
    }
    Err(VlaError::Input {
        what: "normalization of a vision tower",
        got: format!("mean {:?}, standard deviation {:?}", tower.mean, tower.std),
        expected: "finite numbers and standard deviations above 0".into(),
    })
}
