//! What to load, and how.

use super::numerics::Numerics;
use crate::action::RobotPlatform;
use candle_core::Device;
use w4ax::{Grouping, Quantize, ScaleType};

/// How a model is loaded.
///
/// ```
/// use w4ax_vla::model::{LoadOptions, Numerics};
/// let options = LoadOptions::default().with_action_rows_only(true);
/// assert!(matches!(options.numerics(), Numerics::Quantized(_)));
/// ```
#[derive(Clone, Debug)]
pub struct LoadOptions {
    device: Device,
    numerics: Numerics,
    packed_vision: bool,
    action_rows_only: bool,
    platform: RobotPlatform,
    images: Option<usize>,
    one_pass: Option<bool>,
    tokens: usize,
}

impl Default for LoadOptions {
    /// The CPU; weights in groups of 128 with BF16 scales; vision in BF16; all rows of the head;
    /// LIBERO's constants for OFT; a cache of 288 tokens.
    fn default() -> Self {
        let quantize = Quantize::new(Grouping::G128).with_scale_type(ScaleType::Bf16);
        Self {
            device: Device::Cpu,
            numerics: Numerics::Quantized(quantize),
            packed_vision: false,
            action_rows_only: false,
            platform: RobotPlatform::Libero,
            images: None,
            one_pass: None,
            tokens: Self::TOKENS,
        }
    }
}

impl LoadOptions {
    /// The default number of tokens that the cache is allocated for: 256 patches, a prompt of 25
    /// tokens, as most have, and 7 of the action.
    pub const TOKENS: usize = 288;

    /// Sets the device.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the types of weights and activations.
    #[must_use]
    pub fn with_numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Sets whether the linear layers of the vision towers and of the projector are packed too in
    /// a quantized model. They run at BF16 (W4A16) in every step.
    #[must_use]
    pub fn with_packed_vision(mut self, packed: bool) -> Self {
        self.packed_vision = packed;
        self
    }

    /// Sets whether only the rows of the head that decode to actions are kept: the last 256 of the
    /// tokenizer's ids. Other tokens cannot be chosen then.
    #[must_use]
    pub fn with_action_rows_only(mut self, only: bool) -> Self {
        self.action_rows_only = only;
        self
    }

    /// Sets the robot of an OFT model: its chunk, its action and its state.
    #[must_use]
    pub fn with_platform(mut self, platform: RobotPlatform) -> Self {
        self.platform = platform;
        self
    }

    /// Sets the number of images of an observation. By default 1 for OpenVLA, and for OFT what the
    /// platform has: LIBERO 2, ALOHA 3, BRIDGE 1.
    #[must_use]
    pub fn with_images(mut self, images: usize) -> Self {
        self.images = Some(images);
        self
    }

    /// Sets whether the model is OpenVLA-OFT: one bidirectional pass, and chunks of actions. By
    /// default it is if the checkpoint has an action head. OFT without one decodes the chunk's
    /// tokens by the head of the language model.
    #[must_use]
    pub fn with_one_pass(mut self, one_pass: bool) -> Self {
        self.one_pass = Some(one_pass);
        self
    }

    /// Sets the number of tokens that the cache is allocated for. A longer sequence reallocates it,
    /// in multiples of 32 up to the context of the model.
    #[must_use]
    pub fn with_tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the types of weights and activations.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Returns whether the vision towers are packed.
    pub fn packed_vision(&self) -> bool {
        self.packed_vision
    }

    /// Returns whether only the rows of the head that decode to actions are kept.
    pub fn action_rows_only(&self) -> bool {
        self.action_rows_only
    }

    /// Returns the robot of an OFT model.
    pub fn platform(&self) -> RobotPlatform {
        self.platform
    }

    /// Returns the number of images of an observation, if it was set.
    pub fn images(&self) -> Option<usize> {
        self.images
    }

    /// Returns whether the model is OpenVLA-OFT, if it was set.
    pub fn one_pass(&self) -> Option<bool> {
        self.one_pass
    }

    /// Returns the number of tokens that the cache is allocated for.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
