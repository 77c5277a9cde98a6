//! The two vision towers side by side.

use super::{Loader, Trace, Vit};
use crate::{Result, VlaError, ops};
use candle_core::Tensor;

/// DINOv2 and SigLIP on one image, their features concatenated.
#[derive(Clone, Debug)]
pub struct VisionTowers {
    dino: Vit,
    siglip: Vit,
}

impl VisionTowers {
    /// Loads both towers.
    ///
    /// # Errors
    /// As [`Vit::load`].
    pub fn load(loader: &Loader<'_>) -> Result<Self> {
        Ok(Self {
            dino: Vit::load(loader, "vision_backbone.featurizer", "dino")?,
            siglip: Vit::load(loader, "vision_backbone.fused_featurizer", "siglip")?,
        })
    }

    /// Returns the number of features of a patch, of both towers together.
    pub fn features(&self) -> usize {
        self.dino.features() + self.siglip.features()
    }

    /// Returns the features `[256, 2176]` of the pixel values `[6, 224, 224]` of one image, those
    /// of DINOv2 first. The pixel values may have another type than the activations.
    ///
    /// Traces what [`Vit::forward`] does, under the names `dino` and `siglip`.
    ///
    /// # Errors
    /// If the pixel values have another shape.
    pub fn forward(&self, pixel_values: &Tensor, trace: Trace<'_>) -> Result<Tensor> {
        if pixel_values.rank() != 3 || pixel_values.dim(0)? != 6 {
            return Err(VlaError::Input {
                what: "pixel values of an image",
                got: format!("{:?}", pixel_values.dims()),
                expected: "[6, height, width]".into(),
            });
        }
        let pixel_values = ops::cast(pixel_values, self.dino.dtype())?;
        let dino = self.dino.forward(&pixel_values.narrow(0, 0, 3)?, trace)?;
        let siglip = self.siglip.forward(&pixel_values.narrow(0, 3, 3)?, trace)?;
        Ok(Tensor::cat(&[dino, siglip], 1)?)
    }
}
