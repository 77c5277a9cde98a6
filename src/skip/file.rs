//! The safetensors file of adapters and controllers.
//!
//! `__metadata__` holds `"format": "w4ax-skip"`, `"version"` ([`SkipFile::FORMAT_VERSION`]),
//! `"config"` (a [`NetworkConfig`] as JSON) and `"metrics"`, a free JSON object. Let d be the width
//! of the stack, and ha and hc the inner widths of the networks. Each dynamic layer i has these
//! tensors:
//!
//! | tensor | dtype | shape |
//! |---|---|---|
//! | `adapters.{i}.norm` | F32 | `[d]` |
//! | `adapters.{i}.up.weight` | BF16 | `[ha, d]` |
//! | `adapters.{i}.down.weight` | BF16 | `[d, ha]` |
//! | `controllers.{i}.norm` | F32 | `[d]` |
//! | `controllers.{i}.hidden.weight` | BF16 | `[hc, d]` |
//! | `controllers.{i}.out.weight` | F32 | `[hc]` |
//! | `controllers.{i}.bias` | F32 | `[1]` |
//!
//! If the configuration has an `exit`, the file also holds the three tensors of an adapter as
//! `exit.*`. Any other tensor is an error.

use super::networks::{Adapter, Controller, NetworkConfig};
use crate::tensors::TensorFile;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The adapters and controllers of a stack.
///
/// ```
/// use half::bf16;
/// use w4ax::skip::{Adapter, Controller, NetworkConfig, SkipFile};
/// # fn main() -> w4ax::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("w4ax-skip-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("skip.safetensors");
/// let (d, ha, hc) = (8, 4, 2);
/// let config = NetworkConfig {
///     layers: 3,
///     width: d,
///     static_layers: vec![0, 2],
///     static_ratio: None,
///     similarity: vec![0.5, 0.9, 0.6],
///     adapter_hidden: ha,
///     controller_hidden: hc,
///     lambda: 0.01,
///     seed: 1,
///     exit: None,
/// };
/// let (norm, zero) = (vec![1.0; d], bf16::ZERO);
/// let adapter = Adapter { norm: norm.clone(), up: vec![zero; ha * d], down: vec![zero; d * ha] };
/// let hidden = vec![zero; hc * d];
/// let controller = Controller { norm, hidden, out: vec![0.0; hc], bias: -1.0 };
/// let file = SkipFile {
///     config,
///     adapters: [(1, adapter)].into(), // Only layer 1 is dynamic.
///     controllers: [(1, controller)].into(),
///     exit: None,
///     metrics: Default::default(),
/// };
/// file.save(&path)?;
/// let layers = SkipFile::load(&path)?.config.skip_layers()?; // For a `Guide`, or a `Skipper`.
/// assert_eq!(layers.gaps().len(), 1);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SkipFile {
    /// The stack that the networks belong to.
    pub config: NetworkConfig,
    /// The adapter of each dynamic layer.
    pub adapters: BTreeMap<usize, Adapter>,
    /// The controller of each dynamic layer.
    pub controllers: BTreeMap<usize, Controller>,
    /// The adapter of [`NetworkConfig::exit`].
    pub exit: Option<Adapter>,
    /// Free metrics of the training, such as losses, errors and time.
    pub metrics: serde_json::Map<String, serde_json::Value>,
}

impl SkipFile {
    /// The newest version of the file format, which this crate writes.
    pub const FORMAT_VERSION: u32 = 1;

    /// Writes the file atomically.
    ///
    /// # Errors
    /// - [`Error::Io`] if writing fails.
    /// - [`Error::Format`] or [`Error::Tensor`] if the networks do not match the configuration, or
    ///   a value is not finite.
    /// - [`Error::MissingTensor`] if a dynamic layer has no adapter or no controller.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let layers = self.config.check(&file)?;
        let dynamic: BTreeSet<usize> = layers.dynamic_layers().collect();
        for &layer in self.adapters.keys().chain(self.controllers.keys()) {
            if !dynamic.contains(&layer) {
                let reason = format!("layer {layer} has a network: expected only dynamic layers");
                return Err(Error::format(file, reason));
            }
        }
        let mut out = TensorWriter::new(&file);
        let c = &self.config;
        let missing = |name: String| Error::MissingTensor {
            file: file.clone(),
            name,
        };
        for layer in dynamic {
            let name = format!("adapters.{layer}");
            let adapter = self.adapters.get(&layer);
            out.adapter(&name, adapter.ok_or_else(|| missing(name.clone()))?, c)?;
            let name = format!("controllers.{layer}");
            let controller = self.controllers.get(&layer);
            out.controller(&name, controller.ok_or_else(|| missing(name.clone()))?, c)?;
        }
        match (&self.exit, c.exit) {
            (None, None) => (),
            (Some(exit), Some(_)) => out.adapter("exit", exit, c)?,
            _ => {
                let reason =
                    "`exit` must be set in both the file and its configuration, or in neither";
                return Err(Error::format(file, reason));
            }
        }
        let json = |value: serde_json::Result<String>| {
            value.map_err(|error| Error::format(file.clone(), error.to_string()))
        };
        let metadata = HashMap::from([
            ("format".into(), "w4ax-skip".into()),
            ("version".into(), Self::FORMAT_VERSION.to_string()),
            ("config".into(), json(serde_json::to_string(c))?),
            (
                "metrics".into(),
                json(serde_json::to_string(&self.metrics))?,
            ),
        ]);
        let bytes = safetensors::serialize(out.tensors, Some(metadata))
            .map_err(|error| Error::format(file.clone(), error.to_string()))?;
        crate::file::write_atomically(path, &bytes)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// - [`Error::Io`] if reading fails.
    /// - [`Error::Format`] if the file is truncated, of another format, newer, or inconsistent.
    /// - [`Error::MissingTensor`] if a tensor is missing.
    /// - [`Error::Tensor`] if a tensor has another type or shape, is not part of the format, or
    ///   holds a value that is not finite.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path.as_ref())?;
        let bad = |reason: String| Error::format(file.name(), reason);
        let field = |name: &str| {
            let field = file.metadata().and_then(|m| m.get(name));
            field.ok_or_else(|| bad(format!("missing metadata `{name}`")))
        };
        match field("format")?.as_str() {
            "w4ax-skip" => (),
            other => {
                let reason = format!("unsupported format `{other}`: expected `w4ax-skip`");
                return Err(bad(reason));
            }
        }
        let version = field("version")?;
        if version.parse() != Ok(Self::FORMAT_VERSION) {
            let expected = Self::FORMAT_VERSION;
            let reason = format!("unsupported format version `{version}`: expected {expected}");
            return Err(bad(reason));
        }
        let config: NetworkConfig = serde_json::from_str(field("config")?)
            .map_err(|error| bad(format!("`config`: {error}")))?;
        let metrics = serde_json::from_str(field("metrics")?)
            .map_err(|error| bad(format!("`metrics`: {error}")))?;
        let layers = config.check(&file.name())?;
        let mut read = TensorReader {
            unread: file.names().into_iter().collect(),
            file: &file,
            config: &config,
        };
        let (mut adapters, mut controllers) = (BTreeMap::new(), BTreeMap::new());
        for layer in layers.dynamic_layers() {
            adapters.insert(layer, read.adapter(&format!("adapters.{layer}"))?);
            controllers.insert(layer, read.controller(&format!("controllers.{layer}"))?);
        }
        let exit = config.exit.map(|_| read.adapter("exit")).transpose()?;
        if let Some(name) = read.unread.first() {
            let reason = "unexpected tensor: not part of the configuration";
            return Err(Error::tensor(file.name(), name, reason));
        }
        Ok(Self {
            config,
            adapters,
            controllers,
            exit,
            metrics,
        })
    }

    /// Returns the number of parameters of all networks.
    pub fn parameters(&self) -> usize {
        let adapters = self.adapters.values().chain(&self.exit);
        adapters.map(Adapter::parameters).sum::<usize>()
            + self
                .controllers
                .values()
                .map(Controller::parameters)
                .sum::<usize>()
    }
}

/// Returns [`Error::Tensor`] with the first value that is not finite.
fn check_finite<T: Copy + Into<f64>>(
    file: impl Into<String>,
    name: &str,
    values: &[T],
) -> Result<()> {
    let mut values = values.iter().map(|&value| value.into()).enumerate();
    match values.find(|(_, value): &(usize, f64)| !value.is_finite()) {
        None => Ok(()),
        Some((at, value)) => {
            let reason = format!("element {at} is {value}: expected a finite value");
            Err(Error::tensor(file, name, reason))
        }
    }
}

/// Collects the tensors of a file to be written.
struct TensorWriter<'a> {
    file: &'a str,
    tensors: Vec<(String, TensorView<'a>)>,
}

impl<'a> TensorWriter<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            tensors: Vec::new(),
        }
    }

    fn add<T: bytemuck::Pod + Into<f64>>(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: &[usize],
        values: &'a [T],
    ) -> Result<()> {
        check_finite(self.file, &name, values)?;
        let bytes = bytemuck::cast_slice(values);
        match TensorView::new(dtype, shape.to_vec(), bytes) {
            Ok(view) => self.tensors.push((name, view)),
            Err(error) => return Err(Error::tensor(self.file, name, error.to_string())),
        }
        Ok(())
    }

    fn adapter(&mut self, name: &str, adapter: &'a Adapter, c: &NetworkConfig) -> Result<()> {
        let (d, ha) = (c.width, c.adapter_hidden);
        self.add(format!("{name}.norm"), Dtype::F32, &[d], &adapter.norm)?;
        let (up, down) = (format!("{name}.up.weight"), format!("{name}.down.weight"));
        self.add(up, Dtype::BF16, &[ha, d], &adapter.up)?;
        self.add(down, Dtype::BF16, &[d, ha], &adapter.down)
    }

    fn controller(&mut self, name: &str, of: &'a Controller, c: &NetworkConfig) -> Result<()> {
        let (d, hc) = (c.width, c.controller_hidden);
        self.add(format!("{name}.norm"), Dtype::F32, &[d], &of.norm)?;
        let hidden = format!("{name}.hidden.weight");
        self.add(hidden, Dtype::BF16, &[hc, d], &of.hidden)?;
        self.add(format!("{name}.out.weight"), Dtype::F32, &[hc], &of.out)?;
        let bias = std::slice::from_ref(&of.bias);
        self.add(format!("{name}.bias"), Dtype::F32, &[1], bias)
    }
}

/// Reads the tensors of a file and keeps track of those not read yet.
struct TensorReader<'a> {
    file: &'a TensorFile,
    config: &'a NetworkConfig,
    unread: BTreeSet<String>,
}

impl TensorReader<'_> {
    /// Reads a tensor of this type and shape with finite values.
    fn read<T>(&mut self, name: String, dtype: Dtype, shape: &[usize]) -> Result<Vec<T>>
    where
        T: bytemuck::Pod + Into<f64>,
    {
        let info = self.file.info(&name);
        if let Some(info) = info.filter(|info| info.dtype != dtype || info.shape != shape) {
            let reason = format!(
                "{:?} {:?}: expected {dtype:?} {shape:?}",
                info.dtype, info.shape
            );
            return Err(Error::tensor(self.file.name(), name, reason));
        }
        let values: Vec<T> = self.file.read(&name)?;
        check_finite(self.file.name(), &name, &values)?;
        self.unread.remove(&name);
        Ok(values)
    }

    fn adapter(&mut self, name: &str) -> Result<Adapter> {
        let (d, ha) = (self.config.width, self.config.adapter_hidden);
        Ok(Adapter {
            norm: self.read(format!("{name}.norm"), Dtype::F32, &[d])?,
            up: self.read(format!("{name}.up.weight"), Dtype::BF16, &[ha, d])?,
            down: self.read(format!("{name}.down.weight"), Dtype::BF16, &[d, ha])?,
        })
    }

    fn controller(&mut self, name: &str) -> Result<Controller> {
        let (d, hc) = (self.config.width, self.config.controller_hidden);
        Ok(Controller {
            norm: self.read(format!("{name}.norm"), Dtype::F32, &[d])?,
            hidden: self.read(format!("{name}.hidden.weight"), Dtype::BF16, &[hc, d])?,
            out: self.read(format!("{name}.out.weight"), Dtype::F32, &[hc])?,
            bias: self.read(format!("{name}.bias"), Dtype::F32, &[1])?[0],
        })
    }
}
