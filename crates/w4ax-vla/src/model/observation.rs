//! The input of a step.

use crate::image::RgbImage;

/// What the robot is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// A text, which the tokenizer of the checkpoint encodes within the prompt of the model.
    Text(String),
    /// The token ids of the whole prompt, with BOS first and the lone `▁` last.
    Tokens(Vec<u32>),
}

/// The input of a step: images, an instruction, and for OFT the state of the robot.
///
/// ```
/// use w4ax_vla::image::RgbImage;
/// use w4ax_vla::model::Observation;
/// # fn main() -> w4ax_vla::Result<()> {
/// let image = RgbImage::new(640, 480, vec![127; 640 * 480 * 3])?;
/// let observation = Observation::new(vec![image], "put the spoon on the plate")
///     .with_unnorm_key("bridge_orig");
/// # assert_eq!(observation.unnorm_key(), Some("bridge_orig"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Observation {
    images: Vec<RgbImage>,
    instruction: Instruction,
    proprio: Option<Vec<f64>>,
    unnorm_key: Option<String>,
}

impl Default for Instruction {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&str> for Instruction {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Instruction {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Instruction {
    fn from(ids: Vec<u32>) -> Self {
        Self::Tokens(ids)
    }
}

impl Observation {
    /// Creates an observation of images, in the order in which the model was trained on them: the
    /// third-person image first, then those of the wrists.
    pub fn new(images: Vec<RgbImage>, instruction: impl Into<Instruction>) -> Self {
        Self {
            images,
            instruction: instruction.into(),
            ..Self::default()
        }
    }

    /// Sets the state of the robot, in the units of the data set (not normalized).
    #[must_use]
    pub fn with_proprio(mut self, proprio: Vec<f64>) -> Self {
        self.proprio = Some(proprio);
        self
    }

    /// Sets the data set whose statistics scale the state and the actions. A checkpoint with one
    /// data set needs no key.
    #[must_use]
    pub fn with_unnorm_key(mut self, key: impl Into<String>) -> Self {
        self.unnorm_key = Some(key.into());
        self
    }

    /// Returns the images.
    pub fn images(&self) -> &[RgbImage] {
        &self.images
    }

    /// Returns the instruction.
    pub fn instruction(&self) -> &Instruction {
        &self.instruction
    }

    /// Returns the state of the robot.
    pub fn proprio(&self) -> Option<&[f64]> {
        self.proprio.as_deref()
    }

    /// Returns the key of the data set.
    pub fn unnorm_key(&self) -> Option<&str> {
        self.unnorm_key.as_deref()
    }
}
