//! `preprocessor_config.json`: how an image becomes the input of the towers.

use super::json::{self, Fields};
use crate::Result;
use crate::image::{ImageProcessor, Normalization, ResizeStrategy};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// What `preprocessor_config.json` defines.
///
/// The stored parameters of torchvision's transforms (`tvf_*`) replace those that follow from
/// `image_resize_strategy`, `means` and `stds`, as they do in the reference. The two differ: the
/// released file has means and deviations that are rounded to BF16 in `tvf_normalize_params`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProcessorConfig {
    /// Side of the input of a tower, in pixels.
    pub size: usize,
    /// How an image becomes a square one.
    pub strategy: ResizeStrategy,
    /// Normalization per tower: DINOv2, SigLIP.
    pub towers: Vec<Normalization>,
}

impl ProcessorConfig {
    /// Returns the configuration of the released OpenVLA-7B.
    pub fn openvla_7b() -> Self {
        Self {
            size: 224,
            strategy: ResizeStrategy::ResizeNaive,
            towers: vec![
                Normalization {
                    mean: [0.484375, 0.455078125, 0.40625].map(|x: f64| x as f32),
                    std: [0.228515625, 0.2236328125, 0.224609375].map(|x: f64| x as f32),
                },
                Normalization {
                    mean: [0.5; 3],
                    std: [0.5; 3],
                },
            ],
        }
    }

    /// Reads `preprocessor_config.json` of a checkpoint's folder.
    ///
    /// # Errors
    /// [`Io`](crate::VlaError::Io) and [`Json`](crate::VlaError::Json) for a file that cannot be
    /// read, [`Field`](crate::VlaError::Field) for a value that this crate does not support:
    /// another interpolation than bicubic, an image that is not square, towers with different
    /// sizes.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let file = folder.as_ref().join("preprocessor_config.json");
        Self::check(json::read(&file)?, &file.display().to_string())
    }

    /// Returns the processor of images.
    ///
    /// # Errors
    /// As [`ImageProcessor::new`], for values that were changed after loading.
    pub fn processor(&self) -> Result<ImageProcessor> {
        ImageProcessor::new(self.size, self.strategy, self.towers.clone())
    }

    /// Parses the text of a `preprocessor_config.json`. `file` is its name for errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_json(file: &str, text: &str) -> Result<Self> {
        Self::check(json::parse(file, text)?, file)
    }

    fn check(stored: StoredProcessor, file: &str) -> Result<Self> {
        let fields = Fields { file };
        let size = check_size(&fields, &stored)?;
        check_interpolation(&fields, &stored)?;
        check_crop(&fields, &stored, size)?;
        let strategy = check_resize(&fields, &stored, size)?;
        let towers = check_towers(&fields, &stored)?;
        Ok(Self {
            size,
            strategy,
            towers,
        })
    }
}

/// The fields of `preprocessor_config.json`, as stored. `null` is a missing field.
#[derive(Deserialize)]
struct StoredProcessor {
    image_resize_strategy: Option<String>,
    input_sizes: Option<Vec<[usize; 3]>>,
    interpolations: Option<Vec<String>>,
    means: Option<Vec<[f64; 3]>>,
    stds: Option<Vec<[f64; 3]>>,
    tvf_do_letterbox: Option<bool>,
    tvf_letterbox_fill: Option<[u8; 3]>,
    tvf_resize_params: Option<Vec<StoredResize>>,
    tvf_crop_params: Option<Vec<StoredCrop>>,
    tvf_normalize_params: Option<Vec<StoredNormalize>>,
}

#[derive(Deserialize)]
struct StoredResize {
    size: Sides,
    interpolation: Option<Value>,
    max_size: Option<usize>,
}

#[derive(Deserialize)]
struct StoredCrop {
    output_size: Sides,
}

#[derive(Deserialize)]
struct StoredNormalize {
    mean: [f64; 3],
    std: [f64; 3],
}

/// One number is the shorter side of an image, two are height and width.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Sides {
    Shorter(usize),
    ShorterList([usize; 1]),
    Both([usize; 2]),
}

impl StoredProcessor {
    fn towers(&self) -> usize {
        self.input_sizes.as_ref().map_or(1, Vec::len)
    }
}

/// Returns an error unless a list has one value per tower.
fn check_length<T>(fields: &Fields, field: &str, list: &[T], towers: usize) -> Result<()> {
    let got = format!("a list of {}", list.len());
    let expected = format!("one value per tower: {towers}");
    fields.check(list.len() == towers, field, got, &expected)
}

fn check_size(fields: &Fields, stored: &StoredProcessor) -> Result<usize> {
    let field = "input_sizes";
    let sizes = stored.input_sizes.as_deref().unwrap_or(&[[3, 224, 224]]);
    let Some(&[_, size, _]) = sizes.first() else {
        return Err(fields.error(field, "an empty list", "one size per tower"));
    };
    let valid = size > 0 && sizes.iter().all(|&sides| sides == [3, size, size]);
    let expected = "[3, n, n] with the same n for all towers";
    fields.check(valid, field, format!("{sizes:?}"), expected)?;
    Ok(size)
}

fn check_interpolation(fields: &Fields, stored: &StoredProcessor) -> Result<()> {
    for name in stored.interpolations.iter().flatten() {
        fields.check(name == "bicubic", "interpolations", name, "bicubic")?;
    }
    for resize in stored.tvf_resize_params.iter().flatten() {
        let Some(kind) = &resize.interpolation else {
            continue;
        };
        // 3 is PIL's number of the bicubic filter.
        let valid = *kind == 3 || *kind == "bicubic";
        let field = "tvf_resize_params.interpolation";
        fields.check(valid, field, kind, "3 or \"bicubic\"")?;
    }
    Ok(())
}

fn check_crop(fields: &Fields, stored: &StoredProcessor, size: usize) -> Result<()> {
    let Some(crops) = &stored.tvf_crop_params else {
        return Ok(());
    };
    check_length(fields, "tvf_crop_params", crops, stored.towers())?;
    for crop in crops {
        let valid = match crop.output_size {
            Sides::Shorter(side) | Sides::ShorterList([side]) => side == size,
            Sides::Both(sides) => sides == [size; 2],
        };
        let field = "tvf_crop_params.output_size";
        let got = format!("{:?}", crop.output_size);
        fields.check(valid, field, got, &format!("[{size}, {size}]"))?;
    }
    Ok(())
}

fn check_resize(fields: &Fields, stored: &StoredProcessor, size: usize) -> Result<ResizeStrategy> {
    let field = "image_resize_strategy";
    let strategy = stored.image_resize_strategy.as_deref();
    // The default of the reference.
    let strategy = strategy.unwrap_or("letterbox");
    let (mut naive, mut letterbox) = match strategy {
        "resize-naive" => (true, false),
        "letterbox" => (false, true),
        "resize-crop" => (false, false),
        other => {
            return Err(fields.error(field, other, "resize-naive, letterbox or resize-crop"));
        }
    };
    if let Some(stored) = stored.tvf_do_letterbox {
        letterbox = stored;
    }
    if let Some(resizes) = &stored.tvf_resize_params {
        let field = "tvf_resize_params";
        check_length(fields, field, resizes, stored.towers())?;
        let both = |resize: &StoredResize| matches!(resize.size, Sides::Both(_));
        naive = resizes.first().is_some_and(both);
        for resize in resizes {
            let valid = match resize.size {
                Sides::Shorter(side) | Sides::ShorterList([side]) => !naive && side == size,
                Sides::Both(sides) => naive && sides == [size; 2],
            };
            let expected = format!("{size} or [{size}, {size}], the same for all towers");
            let got = format!("{:?}", resize.size);
            fields.check(valid, "tvf_resize_params.size", got, &expected)?;
            if let Some(max) = resize.max_size {
                let field = "tvf_resize_params.max_size";
                return Err(fields.error(field, max, "null"));
            }
        }
    }
    match (naive, letterbox) {
        (true, false) => Ok(ResizeStrategy::ResizeNaive),
        (false, false) => Ok(ResizeStrategy::ResizeCrop),
        (false, true) => Ok(ResizeStrategy::Letterbox {
            fill: letterbox_fill(stored),
        }),
        (true, true) => {
            let expected = "false if tvf_resize_params.size has two sides";
            Err(fields.error("tvf_do_letterbox", true, expected))
        }
    }
}

/// Returns the stored color of the padding, or the last tower's mean as bytes.
fn letterbox_fill(stored: &StoredProcessor) -> [u8; 3] {
    let last = stored.means.as_ref().and_then(|means| means.last());
    let derived = last.unwrap_or(&[0.5; 3]).map(|mean| (mean * 255.0) as u8);
    stored.tvf_letterbox_fill.unwrap_or(derived)
}

fn check_towers(fields: &Fields, stored: &StoredProcessor) -> Result<Vec<Normalization>> {
    let towers = stored.towers();
    let pairs: Vec<_> = match &stored.tvf_normalize_params {
        Some(params) => {
            check_length(fields, "tvf_normalize_params", params, towers)?;
            params.iter().map(|p| (p.mean, p.std)).collect()
        }
        None => {
            let default = vec![[0.5; 3]; towers];
            let means = stored.means.as_ref().unwrap_or(&default);
            let stds = stored.stds.as_ref().unwrap_or(&default);
            check_length(fields, "means", means, towers)?;
            check_length(fields, "stds", stds, towers)?;
            means.iter().copied().zip(stds.iter().copied()).collect()
        }
    };
    pairs
        .into_iter()
        .map(|(mean, std)| {
            let valid = std.iter().all(|&std| std as f32 > 0.0);
            let got = format!("{std:?}");
            fields.check(valid, "std", got, "numbers above 0")?;
            Ok(Normalization {
                mean: mean.map(|x| x as f32),
                std: std.map(|x| x as f32),
            })
        })
        .collect()
}
