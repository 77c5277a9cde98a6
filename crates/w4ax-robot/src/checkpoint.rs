//! The trained policy's file, `policy.safetensors`, in BF16.
//!
//! The shapes are read from the tensors: d is the width of the residual stream, h the inner width
//! of a block. The shapes must agree with each other and with the metadata. A file with other
//! tensors is rejected.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use w4ax::dispatch::ACTION_DIM;
use w4ax::{Error, MatRef, Result};

use super::shapes::{INPUT, OBS};

/// The trained policy of this repository.
pub const TRAINED: &str = crate::paths::POLICY;

/// The number of values of an action token: steps of [-1, 1].
pub const BINS: usize = 256;

/// The one supported kind of block, as the metadata names it.
const BLOCK: &str = "x+down(silu(gate(rms(x)))*up(rms(x))), rms eps 1e-5";

/// A weight `[n, k]`, row-major, like `nn.Linear`.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// `[n][k]`.
    pub data: Vec<bf16>,
}

impl Matrix {
    /// Returns a view of the matrix.
    pub fn view(&self) -> MatRef<'_, bf16> {
        MatRef::new(&self.data, self.n, self.k).expect("n * k values were read")
    }
}

/// A block, `x + down(silu(gate(rms(x))) * up(rms(x)))`; `W` is a plain or a quantized weight.
#[derive(Clone, Debug)]
pub struct Block<W> {
    /// `[d]`: the factors of rms.
    pub norm: Vec<f32>,
    /// `[h, d]`.
    pub gate: W,
    /// `[h, d]`.
    pub up: W,
    /// `[d, h]`.
    pub down: W,
}

impl<W> Block<W> {
    /// Returns gate, up and down.
    pub fn weights(&self) -> [&W; 3] {
        [&self.gate, &self.up, &self.down]
    }
}

/// The trained policy: `inp`, the blocks, rms, `head`. All values are finite.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Names of the tasks, by index.
    pub tasks: Vec<String>,
    /// `[25]`.
    pub obs_mean: [f32; OBS],
    /// `[25]`, above 0.
    pub obs_std: [f32; OBS],
    /// `[d, 64]`.
    pub inp: Matrix,
    /// At least one.
    pub blocks: Vec<Block<Matrix>>,
    /// `[d]`: the factors of the last rms.
    pub norm: Vec<f32>,
    /// `[7 * 256, d]`.
    pub head: Matrix,
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`Checkpoint::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let file = path.as_ref().display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes, &file),
            Err(source) => Err(Error::Io { file, source }),
        }
    }

    /// Reads a policy from bytes. `file` is its name in errors.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]. [`Error::Format`] for bytes that are not safetensors, a tensor of
    /// another type or shape, an unknown tensor, a value that is not finite, and metadata that is
    /// missing or disagrees.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Format {
            file: file.into(),
            reason,
        };
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| refuse(error.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
        let none = HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&none);
        let mut read = Reader {
            unread: tensors.names().into_iter().map(str::to_owned).collect(),
            tensors,
            file,
        };

        let [d, _] = read.shape("inp.weight")?;
        let [h, _] = read.shape("blocks.0.gate.weight")?;
        let mut blocks = Vec::new();
        while blocks.is_empty() || read.has(&format!("blocks.{}.", blocks.len())) {
            let at = |name: &str| format!("blocks.{}.{name}.weight", blocks.len());
            blocks.push(Block {
                norm: read.norm(&at("norm"), d)?,
                gate: read.matrix(&at("gate"), h, d)?,
                up: read.matrix(&at("up"), h, d)?,
                down: read.matrix(&at("down"), d, h)?,
            });
        }
        let checkpoint = Self {
            tasks: Vec::new(),
            obs_mean: read.obs("obs_mean")?,
            obs_std: read.obs("obs_std")?,
            inp: read.matrix("inp.weight", d, INPUT)?,
            blocks,
            norm: read.norm("norm.weight", d)?,
            head: read.matrix("head.weight", ACTION_DIM * BINS, d)?,
        };
        if let Some(name) = read.unread.first() {
            return Err(refuse(format!("unexpected tensor `{name}`")));
        }
        if let Some(std) = checkpoint.obs_std.iter().find(|std| **std <= 0.0) {
            return Err(refuse(format!(
                "`obs_std` has the value {std}: expected values above 0"
            )));
        }

        let expected = [
            ("obs", OBS),
            ("input", INPUT),
            ("bins", BINS),
            ("d", d),
            ("h", h),
            ("layers", checkpoint.blocks.len()),
        ];
        let expected = expected.map(|(field, value)| (field, value.to_string()));
        for (field, value) in expected.into_iter().chain([("block", BLOCK.to_owned())]) {
            match metadata.get(field) {
                Some(got) if *got == value => (),
                Some(got) => {
                    let reason = format!("metadata `{field}` is `{got}`: expected `{value}`");
                    return Err(refuse(reason));
                }
                None => return Err(refuse(format!("missing metadata `{field}`"))),
            }
        }
        let tasks: Vec<String> = match metadata.get("tasks") {
            Some(tasks) => tasks.split(',').map(str::to_owned).collect(),
            None => return Err(refuse("missing metadata `tasks`".into())),
        };
        if tasks.len() > INPUT - OBS {
            let reason = format!("{} tasks do not fit the policy's input", tasks.len());
            return Err(refuse(reason));
        }
        Ok(Self {
            tasks,
            ..checkpoint
        })
    }

    /// Width of the residual stream.
    pub fn d(&self) -> usize {
        self.inp.n
    }

    /// Inner width of a block.
    pub fn h(&self) -> usize {
        self.blocks[0].gate.n
    }

    /// Returns the matrices that a quantized policy quantizes: gate, up and down of each block, and
    /// head.
    pub fn quantized_layers(&self) -> impl Iterator<Item = &Matrix> {
        self.blocks
            .iter()
            .flat_map(Block::weights)
            .chain([&self.head])
    }

    /// Returns the bytes of [`Checkpoint::quantized_layers`] in BF16.
    pub fn bf16_bytes(&self) -> usize {
        let bytes = |matrix: &Matrix| size_of_val(matrix.data.as_slice());
        self.quantized_layers().map(bytes).sum()
    }
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
    file: &'a str,
    unread: BTreeSet<String>,
}

impl Reader<'_> {
    fn refuse(&self, reason: String) -> Error {
        Error::Format {
            file: self.file.into(),
            reason,
        }
    }

    /// Returns whether an unread tensor has a name that begins with `prefix`.
    fn has(&self, prefix: &str) -> bool {
        self.unread.iter().any(|name| name.starts_with(prefix))
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor {
            file: self.file.into(),
            name: name.into(),
        }
    }

    /// Returns the shape of a matrix with at least one element.
    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        let tensor = self.tensors.tensor(name).map_err(|_| self.missing(name))?;
        match *tensor.shape() {
            [n, k] if n > 0 && k > 0 => Ok([n, k]),
            _ => {
                let shape = tensor.shape();
                Err(self.refuse(format!("`{name}` has shape {shape:?}: expected a matrix")))
            }
        }
    }

    /// Returns the bytes of a tensor of this type and shape.
    fn bytes(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let tensor = self.tensors.tensor(name).map_err(|_| self.missing(name))?;
        if tensor.dtype() != dtype || tensor.shape() != shape {
            let (got, of) = (tensor.dtype(), tensor.shape());
            return Err(self.refuse(format!(
                "`{name}` is {got:?} {of:?}: expected {dtype:?} {shape:?}"
            )));
        }
        self.unread.remove(name);
        Ok(tensor.data())
    }

    fn finite(&self, name: &str, values: impl IntoIterator<Item = f32>) -> Result<()> {
        match values.into_iter().enumerate().find(|(_, x)| !x.is_finite()) {
            None => Ok(()),
            Some((i, x)) => {
                Err(self.refuse(format!("`{name}` is {x} at {i}: expected a finite value")))
            }
        }
    }

    fn half(&mut self, name: &str, shape: &[usize]) -> Result<Vec<bf16>> {
        let bytes = self.bytes(name, Dtype::BF16, shape)?;
        let values: Vec<bf16> = (bytes.as_chunks().0.iter())
            .map(|&word| bf16::from_le_bytes(word))
            .collect();
        self.finite(name, values.iter().map(|x| x.to_f32()))?;
        Ok(values)
    }

    fn matrix(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix> {
        let data = self.half(name, &[n, k])?;
        Ok(Matrix { n, k, data })
    }

    fn norm(&mut self, name: &str, d: usize) -> Result<Vec<f32>> {
        let values = self.half(name, &[d])?;
        Ok(values.into_iter().map(f32::from).collect())
    }

    fn obs(&mut self, name: &str) -> Result<[f32; OBS]> {
        let bytes = self.bytes(name, Dtype::F32, &[OBS])?;
        let mut values = [0.0; OBS];
        for (value, &word) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(word);
        }
        self.finite(name, values)?;
        Ok(values)
    }
}
