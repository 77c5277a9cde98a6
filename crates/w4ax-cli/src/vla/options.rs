//! The options of `w4ax vla run`.

use std::error::Error;
use std::path::PathBuf;

use clap::ValueEnum;
use w4ax::skip::SkipConfig;
use w4ax_robot::setting::{HALF, Setting, Verification};
use w4ax_vla::model::{Instruction, LoadOptions, Numerics};

use super::model::{Input, InputOptions, quantize};
use super::width::{DecideOptions, WidthOptions};
use w4ax_robot::weight_options::Group;

/// Run a model on images and an instruction, and print the action
#[derive(clap::Args)]
pub struct Options {
    /// The model's folder, of Hugging Face or as `w4ax convert` writes it
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The images, in the order in which the model was trained: third person first, then wrists
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    image: Vec<PathBuf>,
    /// What the robot is to do
    #[arg(long, value_name = "TEXT", required_unless_present = "tokens")]
    instruction: Option<String>,
    /// Token ids of the whole prompt, instead of an instruction
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        conflicts_with = "instruction"
    )]
    tokens: Option<Vec<u32>>,
    /// The state of the robot, for OFT, in the units of the data set
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    proprio: Option<Vec<f64>>,
    #[command(flatten)]
    pub input: InputOptions,
    #[command(flatten)]
    pub width: WidthOptions,
    #[command(flatten)]
    pub decide: DecideOptions,
    #[command(flatten)]
    numerics: NumericsOptions,
    #[command(flatten)]
    pub skip: SkipOptions,
    /// Where the model runs
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Threads; 0 for one per core
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    pub threads: u16,
    /// Control steps on the same images
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub steps: u32,
    /// The results as JSON, one line per step
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The types of weights and activations.
#[derive(clap::Args)]
struct NumericsOptions {
    /// Run the unquantized model in F32: the reference of the checks
    #[arg(long, conflicts_with_all = ["width", "calibration", "unquantized"])]
    plain: bool,
    /// Run the unquantized model in BF16, as other runtimes deploy it
    #[arg(long, conflicts_with_all = ["width", "calibration"])]
    unquantized: bool,
    /// Group size of weights that are quantized while they are loaded
    #[arg(long, value_enum, default_value_t = Group::G128)]
    group: Group,
    /// Pack vision towers and projector too
    #[arg(long, conflicts_with_all = ["plain", "unquantized"])]
    pack_vision: bool,
    /// Keep only the rows of the head that decode to actions
    #[arg(long)]
    action_rows: bool,
}

/// Which layers a step skips.
#[derive(clap::Args)]
pub struct SkipOptions {
    /// Skip layers with the adapters and controllers of this file, safetensors, as `distill` writes
    /// it
    #[arg(long, value_name = "FILE")]
    pub skip: Option<PathBuf>,
    /// Guide of the skips: eta1 and eta, eta2, and the probability above which a controller skips
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = HALF, requires = "skip")]
    guide: Setting,
    /// When a step runs again with nothing skipped
    #[arg(long, value_enum, default_value_t = Verification::FirstDrop, requires = "skip")]
    verify: Verification,
}

impl SkipOptions {
    /// Returns the configuration of the guide.
    pub fn config(&self) -> SkipConfig {
        self.guide.config(self.verify)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Device {
    /// The CPU, with its best instruction set or the one that W4AX_CPU names
    Cpu,
    /// The first GPU, in builds with feature vla-cuda
    Cuda,
}

impl Device {
    fn open(self) -> Result<LoadOptions, Box<dyn Error>> {
        let options = LoadOptions::default();
        match self {
            Self::Cpu => Ok(options),
            #[cfg(feature = "vla-cuda")]
            Self::Cuda => Ok(options.with_device(candle_core::Device::new_cuda(0)?)),
            #[cfg(not(feature = "vla-cuda"))]
            Self::Cuda => Err(
                "built without feature vla-cuda: build w4ax-cli with --features vla-cuda".into(),
            ),
        }
    }
}

impl Options {
    /// Returns whether the model has no quantized weights.
    pub fn is_unquantized(&self) -> bool {
        self.numerics.plain || self.numerics.unquantized
    }

    /// Returns how the model is loaded.
    ///
    /// # Errors
    /// If the device is unavailable.
    pub fn load_options(&self) -> Result<LoadOptions, Box<dyn Error>> {
        let options = &self.numerics;
        let numerics = match (options.plain, options.unquantized) {
            (true, _) => Numerics::F32,
            (false, true) => Numerics::Bf16,
            (false, false) => Numerics::Quantized(quantize(options.group.into())),
        };
        let device = self.device.open()?;
        Ok(device
            .with_numerics(numerics)
            .with_packed_vision(options.pack_vision)
            .with_action_rows_only(options.action_rows)
            .with_platform(self.input.platform.into()))
    }

    /// Reads the input of the steps.
    ///
    /// # Errors
    /// An image that cannot be read or decoded.
    pub fn read_input(&self) -> w4ax_vla::Result<Input> {
        let instruction = match (&self.tokens, &self.instruction) {
            (Some(tokens), _) => Instruction::Tokens(tokens.clone()),
            (None, text) => Instruction::Text(text.clone().unwrap_or_default()),
        };
        Input::read(&self.image, instruction, self.proprio.clone())
    }
}
