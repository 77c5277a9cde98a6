//! A vision transformer of timm, as OpenVLA runs it.

use super::norm::LayerNorm;
use super::{AnyLinear, Loader, Trace};
use crate::{Result, VlaError, ops};
use candle_core::{DType, Tensor};

/// Heads of both towers, a constant of the names of timm's models.
const HEADS: usize = 16;
/// Epsilon of the LayerNorms.
const EPS: f64 = 1e-6;

/// A vision transformer that returns the patch tokens of its second-to-last block, without the
/// final norm.
///
/// Dimensions come from the shapes of the tensors. DINOv2 has a class token and four register
/// tokens, which stand before the patches and have no position embedding, and it has LayerScale.
/// SigLIP has neither. The last block, the final norm and the attention pool are not loaded.
#[derive(Clone, Debug)]
pub struct Vit {
    name: &'static str,
    patch: usize,
    patch_embed: AnyLinear,
    pos_embed: Tensor,      // [patches, E]
    prefix: Option<Tensor>, // [prefix tokens, E]
    blocks: Vec<Block>,
}

impl Vit {
    /// Loads the tower whose tensors have this prefix. The name is that of traced tensors.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the others imply.
    pub fn load(loader: &Loader<'_>, prefix: &str, name: &'static str) -> Result<Self> {
        let weight = format!("{prefix}.patch_embed.proj.weight");
        let shape = loader.shape(&weight)?;
        let bad_shape = |expected: Vec<usize>| VlaError::TensorShape {
            file: loader.source().name(),
            name: weight.clone(),
            expected,
            got: shape.clone(),
        };
        let [e, channels, patch, width] = shape[..] else {
            return Err(bad_shape(vec![1024, 3, 14, 14]));
        };
        if e % HEADS != 0 || channels != 3 || patch == 0 || patch != width {
            return Err(bad_shape(vec![e.next_multiple_of(HEADS), 3, patch, patch]));
        }
        let depth = (0..)
            .take_while(|i| {
                let norm = format!("{prefix}.blocks.{i}.norm1.weight");
                loader.source().shape(&norm).is_some()
            })
            .count();
        if depth < 2 {
            return Err(VlaError::MissingTensor {
                file: loader.source().name(),
                name: format!("{prefix}.blocks.{depth}.norm1.weight"),
            });
        }
        let weight = loader
            .tensor(&weight, &shape)?
            .reshape((e, 3 * patch * patch))?;
        let bias = loader.tensor(&format!("{prefix}.patch_embed.proj.bias"), &[e])?;
        let tokens = |tensor: &str| -> Result<Tensor> {
            let shape = loader.shape(tensor)?;
            let count = shape.get(1).copied().unwrap_or(0);
            let tokens = loader.tensor(tensor, &[1, count, e])?;
            Ok(tokens.squeeze(0)?.to_dtype(loader.dtype())?) // [count, E]
        };
        let extra: Vec<Tensor> = ["cls_token", "reg_token"]
            .iter()
            .map(|token| format!("{prefix}.{token}"))
            .filter(|token| loader.source().shape(token).is_some())
            .map(|token| tokens(&token))
            .collect::<Result<_>>()?;
        Ok(Self {
            name,
            patch,
            patch_embed: AnyLinear::Plain(ops::Linear::new(weight, Some(bias))?),
            pos_embed: tokens(&format!("{prefix}.pos_embed"))?,
            prefix: match extra.is_empty() {
                true => None,
                false => Some(Tensor::cat(&extra, 0)?),
            },
            blocks: (0..depth - 1)
                .map(|i| Block::load(loader, &format!("{prefix}.blocks.{i}"), e))
                .collect::<Result<_>>()?,
        })
    }

    /// Returns E, the number of features of a patch.
    pub fn features(&self) -> usize {
        self.patch_embed.n()
    }

    /// Returns the type of the activations.
    pub(super) fn dtype(&self) -> DType {
        self.pos_embed.dtype()
    }

    /// Returns the number of blocks that run.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the features `[patches, E]` of a normalized image `[3, height, width]`.
    ///
    /// Traces `NAME.patch_embed` (before the position embedding), `NAME.block0` (with the tokens
    /// before the patches) and `NAME_patch_features`.
    ///
    /// # Errors
    /// If the image has another number of patches than the position embedding.
    pub fn forward(&self, image: &Tensor, trace: Trace<'_>) -> Result<Tensor> {
        let patches = self.patch_embed.forward(&self.patches(image)?)?; // [patches, E]
        trace(&format!("{}.patch_embed", self.name), &patches);
        let patches = (patches + &self.pos_embed)?;
        let (count, skipped) = match &self.prefix {
            Some(prefix) => (patches.dim(0)?, prefix.dim(0)?),
            None => (patches.dim(0)?, 0),
        };
        let mut x = match &self.prefix {
            Some(prefix) => Tensor::cat(&[prefix, &patches], 0)?, // [tokens, E]
            None => patches,
        };
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            if i == 0 {
                trace(&format!("{}.block0", self.name), &x);
            }
        }
        let features = x.narrow(0, skipped, count)?;
        trace(&format!("{}_patch_features", self.name), &features);
        Ok(features)
    }

    /// Returns the pixels of each patch, `[patches, 3 * patch * patch]`: patches row by row, pixels
    /// in the order of the kernel: channel, y, x.
    fn patches(&self, image: &Tensor) -> Result<Tensor> {
        let (channels, height, width) = image.dims3()?;
        let (rows, columns) = (height / self.patch, width / self.patch);
        let expected = self.pos_embed.dim(0)?;
        let whole = rows * self.patch == height && columns * self.patch == width;
        if channels != 3 || !whole || rows * columns != expected {
            return Err(VlaError::Input {
                what: "image of a vision tower",
                got: format!("{channels}x{height}x{width}"),
                expected: format!("3 channels and {expected} patches of {0}x{0}", self.patch),
            });
        }
        Ok(image
            .reshape((3, rows, self.patch, columns, self.patch))?
            .permute((1, 3, 0, 2, 4))?
            .reshape((expected, 3 * self.patch * self.patch))?)
    }
}

/// A pre-norm transformer block.
#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: AnyLinear,
    proj: AnyLinear,
    scale1: Option<Tensor>, // [E]
    norm2: LayerNorm,
    fc1: AnyLinear,
    fc2: AnyLinear,
    scale2: Option<Tensor>, // [E]
}

impl Block {
    fn load(loader: &Loader<'_>, prefix: &str, e: usize) -> Result<Self> {
        let mlp = loader.shape(&format!("{prefix}.mlp.fc1.weight"))?[0];
        let scale = |name: &str| {
            let name = format!("{prefix}.{name}.scale_factor");
            let exists = loader.source().shape(&name).is_some();
            let load =
                || -> Result<Tensor> { Ok(loader.tensor(&name, &[e])?.to_dtype(loader.dtype())?) };
            exists.then(load).transpose()
        };
        let linear = |name: &str, n, k| loader.linear(&format!("{prefix}.{name}"), n, k, true);
        Ok(Self {
            norm1: LayerNorm::load(loader, &format!("{prefix}.norm1"), e, EPS)?,
            qkv: linear("attn.qkv", 3 * e, e)?,
            proj: linear("attn.proj", e, e)?,
            scale1: scale("ls1")?,
            norm2: LayerNorm::load(loader, &format!("{prefix}.norm2"), e, EPS)?,
            fc1: linear("mlp.fc1", mlp, e)?,
            fc2: linear("mlp.fc2", e, mlp)?,
            scale2: scale("ls2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.attention(&self.norm1.forward(x)?)?;
        let x = add(x, y, self.scale1.as_ref())?;
        let y = ops::gelu(&self.fc1.forward(&self.norm2.forward(&x)?)?)?;
        add(&x, self.fc2.forward(&y)?, self.scale2.as_ref())
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, e) = x.dims2()?;
        let qkv = self
            .qkv
            .forward(x)?
            .reshape((tokens, 3, HEADS, e / HEADS))?;
        let part = |i| qkv.narrow(1, i, 1)?.squeeze(1)?.transpose(0, 1); // [heads, tokens, d]
        let y = ops::attention(&part(0)?, &part(1)?, &part(2)?, ops::Mask::None)?;
        self.proj.forward(&y)
    }
}

/// Returns `x + scale * y`.
fn add(x: &Tensor, y: Tensor, scale: Option<&Tensor>) -> Result<Tensor> {
    let y = match scale {
        Some(scale) => y.broadcast_mul(scale)?,
        None => y,
    };
    Ok((x + y)?)
}
