//! Adapters and controllers on candle, with the names of their file.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::ops;
use half::bf16;
use rand::Rng;
use rand_distr::StandardNormal;
use w4ax::skip::{Adapter, Controller, Layers, NetworkConfig, SkipFile};

use super::frozen::rms;

/// The scale of a network's first output weights, relative to one that keeps the variance: a
/// controller begins undecided.
const TIMID: f64 = 0.1;

/// Parameters by name, such as `adapters.2.up.weight`.
pub type Parameters = BTreeMap<String, Tensor>;

/// Inner widths.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// d.
    pub width: usize,
    /// ha.
    pub adapter: usize,
    /// hc.
    pub controller: usize,
}

/// Returns initial networks for the dynamic layers or the exit: adapters begin near the identity,
/// controllers near p = .5.
///
/// # Errors
/// Those of candle.
pub fn initial(
    layers: &Layers,
    exit: bool,
    sizes: Sizes,
    dtype: DType,
    rng: &mut impl Rng,
) -> Result<BTreeMap<String, Var>> {
    let mut all = BTreeMap::new();
    let Sizes {
        width: d,
        adapter,
        controller,
    } = sizes;
    let mut add = |name: String, shape: &[usize], scale: Option<f64>| {
        let count = shape.iter().product();
        let values: Vec<f64> = match scale {
            None => vec![1.0; count],
            Some(0.0) => vec![0.0; count],
            Some(scale) => (0..count)
                .map(|_| scale * rng.sample::<f64, _>(StandardNormal))
                .collect(),
        };
        let value = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
        all.insert(name, Var::from_tensor(&value)?);
        Ok::<_, candle_core::Error>(())
    };
    let wide = (d as f64).powf(-0.5);
    let names = layers
        .dynamic_layers()
        .map(|layer| format!("adapters.{layer}"));
    for name in names.chain(exit.then(|| "exit".to_owned())) {
        add(format!("{name}.norm"), &[d], None)?;
        add(format!("{name}.up.weight"), &[adapter, d], Some(wide))?;
        add(format!("{name}.down.weight"), &[d, adapter], Some(0.0))?;
    }
    for layer in layers.dynamic_layers() {
        let name = format!("controllers.{layer}");
        add(format!("{name}.norm"), &[d], None)?;
        add(
            format!("{name}.hidden.weight"),
            &[controller, d],
            Some(wide),
        )?;
        let scale = TIMID * (controller as f64).powf(-0.5);
        add(format!("{name}.out.weight"), &[controller], Some(scale))?;
        add(format!("{name}.bias"), &[1], Some(0.0))?;
    }
    Ok(all)
}

/// The functions of the networks, on parameters that are trained, averaged or rounded.
pub struct Networks(pub Parameters);

impl Networks {
    /// Uses variables, so that candle computes their gradients.
    pub fn of(vars: &BTreeMap<String, Var>) -> Self {
        let tensor = |(name, var): (&String, &Var)| (name.clone(), var.as_tensor().clone());
        Self(vars.iter().map(tensor).collect())
    }

    /// Returns `x + down(silu(up(rms(x) * norm)))`, `[B, d]`, of the adapter `adapters.{layer}` or
    /// `exit`.
    ///
    /// # Errors
    /// Those of candle. A network that does not exist.
    pub fn adapter(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let normed = rms(x)?.broadcast_mul(self.get(name, "norm")?)?;
        let inner = normed.matmul(&self.get(name, "up.weight")?.t()?)?.silu()?;
        x + inner.matmul(&self.get(name, "down.weight")?.t()?)?
    }

    /// Returns a dynamic layer's `sigmoid(out . silu(hidden(rms(x) * norm)) + bias)`, `[B, 1]`.
    ///
    /// # Errors
    /// Those of candle. A network that does not exist.
    pub fn controller(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let name = format!("controllers.{layer}");
        let normed = rms(x)?.broadcast_mul(self.get(&name, "norm")?)?;
        let inner = normed
            .matmul(&self.get(&name, "hidden.weight")?.t()?)?
            .silu()?;
        let out = inner.matmul(&self.get(&name, "out.weight")?.unsqueeze(1)?)?;
        ops::sigmoid(&out.broadcast_add(self.get(&name, "bias")?)?)
    }

    /// Returns the networks as their file stores them: matrices rounded to BF16.
    ///
    /// # Errors
    /// Those of candle.
    pub fn rounded(&self) -> Result<Self> {
        let round = |(name, value): (&String, &Tensor)| {
            let matrix = value.rank() == 2;
            let value = match matrix {
                true => value.to_dtype(DType::BF16)?.to_dtype(value.dtype())?,
                false => value.clone(),
            };
            Ok((name.clone(), value))
        };
        Ok(Self(self.0.iter().map(round).collect::<Result<_>>()?))
    }

    /// Returns the file without metrics. It has an exit's adapter if the configuration has an exit.
    ///
    /// # Errors
    /// Those of candle. A network that does not exist.
    pub fn file(&self, config: NetworkConfig, layers: &Layers) -> Result<SkipFile> {
        let mut file = SkipFile {
            adapters: BTreeMap::new(),
            controllers: BTreeMap::new(),
            exit: config
                .exit
                .map(|_| self.adapter_weights("exit"))
                .transpose()?,
            metrics: serde_json::Map::new(),
            config,
        };
        for layer in layers.dynamic_layers() {
            let adapter = self.adapter_weights(&format!("adapters.{layer}"))?;
            file.adapters.insert(layer, adapter);
            let name = format!("controllers.{layer}");
            let controller = Controller {
                norm: self.floats(&name, "norm")?,
                hidden: self.halves(&name, "hidden.weight")?,
                out: self.floats(&name, "out.weight")?,
                bias: self.floats(&name, "bias")?[0],
            };
            file.controllers.insert(layer, controller);
        }
        Ok(file)
    }

    fn adapter_weights(&self, name: &str) -> Result<Adapter> {
        Ok(Adapter {
            norm: self.floats(name, "norm")?,
            up: self.halves(name, "up.weight")?,
            down: self.halves(name, "down.weight")?,
        })
    }

    fn get(&self, network: &str, name: &str) -> Result<&Tensor> {
        let name = format!("{network}.{name}");
        match self.0.get(&name) {
            Some(value) => Ok(value),
            None => candle_core::bail!("missing parameter `{name}`"),
        }
    }

    fn floats(&self, network: &str, name: &str) -> Result<Vec<f32>> {
        let value = self.get(network, name)?;
        value.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }

    fn halves(&self, network: &str, name: &str) -> Result<Vec<bf16>> {
        let value = self.get(network, name)?;
        value.to_dtype(DType::BF16)?.flatten_all()?.to_vec1()
    }
}
