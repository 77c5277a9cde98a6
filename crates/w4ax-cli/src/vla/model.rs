//! Options of a model, and loading it.

use std::error::Error;
use std::path::Path;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use w4ax::{Grouping, Quantize, ScaleType};
use w4ax_vla::action::RobotPlatform;
use w4ax_vla::image::RgbImage;
use w4ax_vla::image::libero::LiberoClient;
use w4ax_vla::model::{Instruction, LoadOptions, LoadProgress, Observation, Vla};

/// How observations become the model's input.
#[derive(clap::Args, Clone, Debug)]
pub struct InputOptions {
    /// The data set whose statistics scale actions and proprio; needed if the checkpoint has
    /// several
    #[arg(long, value_name = "KEY")]
    pub unnorm_key: Option<String>,
    /// The robot of an OFT checkpoint: number of images, chunk and proprio
    #[arg(long, value_enum, default_value_t = Platform::Libero)]
    pub platform: Platform,
    /// What is done to the images before the model's own preprocessing
    #[arg(long, value_enum, default_value_t = Client::None)]
    pub client: Client,
}

/// The robot of an OFT checkpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Platform {
    /// The LIBERO simulator: 2 images, 8 actions of 7 numbers
    Libero,
    /// ALOHA: 3 images, 25 actions of 14 numbers
    Aloha,
    /// BridgeData: 1 image, 5 actions of 7 numbers
    Bridge,
}

impl From<Platform> for RobotPlatform {
    fn from(platform: Platform) -> Self {
        match platform {
            Platform::Libero => Self::Libero,
            Platform::Aloha => Self::Aloha,
            Platform::Bridge => Self::Bridge,
        }
    }
}

/// The client that sends images to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Images as they are
    None,
    /// Raw images of LIBERO's cameras, as its evaluation prepares them: rotation, JPEG, lanczos,
    /// crop
    Libero,
}

/// The input of a step, as it was read.
pub struct Input {
    images: Vec<RgbImage>,
    instruction: Instruction,
    proprio: Option<Vec<f64>>,
}

impl Input {
    /// Reads the images.
    ///
    /// # Errors
    /// As [`RgbImage::open`].
    pub fn read(
        images: &[impl AsRef<Path>],
        instruction: Instruction,
        proprio: Option<Vec<f64>>,
    ) -> w4ax_vla::Result<Self> {
        Ok(Self {
            images: images
                .iter()
                .map(RgbImage::open)
                .collect::<Result<_, _>>()?,
            instruction,
            proprio,
        })
    }
}

impl InputOptions {
    /// Returns the observation that the client of a model makes of an input.
    pub fn observation(&self, model: &Vla, input: &Input) -> Observation {
        let client = match (self.client, model.is_one_pass()) {
            (Client::None, _) => None,
            (Client::Libero, false) => Some(LiberoClient::openvla()),
            (Client::Libero, true) => Some(LiberoClient::oft()),
        };
        let prepare = |image: &RgbImage| match &client {
            Some(client) => client.prepare(image),
            None => image.clone(),
        };
        let images = input.images.iter().map(prepare).collect();
        let mut observation = Observation::new(images, input.instruction.clone());
        if let Some(proprio) = &input.proprio {
            observation = observation.with_proprio(proprio.clone());
        }
        if let Some(key) = &self.unnorm_key {
            observation = observation.with_unnorm_key(key);
        }
        observation
    }
}

/// Returns how weights are quantized while they are loaded.
pub fn quantize(grouping: Grouping) -> Quantize {
    Quantize::new(grouping).with_scale_type(ScaleType::Bf16)
}

/// Loads a model, with a progress bar.
///
/// # Errors
/// As [`Vla::load`].
pub fn load(folder: &Path, options: &LoadOptions) -> Result<Vla, Box<dyn Error>> {
    Ok(with_progress(|progress| {
        Vla::load(folder, options, progress)
    })?)
}

/// Calls `run` with a progress bar on standard error, if that is a terminal. The bar is cleared
/// when everything is loaded.
pub fn with_progress<T>(run: impl FnOnce(&mut dyn FnMut(LoadProgress<'_>)) -> T) -> T {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent} % {eta} {wide_msg}") {
        bar.set_style(style);
    }
    let result = run(&mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.name.to_owned());
        if progress.done == progress.total {
            bar.finish_and_clear();
        }
    });
    bar.finish_and_clear();
    result
}
