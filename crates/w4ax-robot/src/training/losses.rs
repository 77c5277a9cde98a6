//! The two losses of the distillation, and the draw of stage 2's skips.

use candle_core::{D, Result, Tensor};
use candle_nn::ops;
use rand::Rng;
use rand::distr::{Distribution, weighted::WeightedIndex};
use w4ax::skip::{Gap, Layers};

use super::frozen::Frozen;
use super::networks::Networks;

/// The frozen stack's results for a batch.
pub struct Teacher {
    /// `[n + 1][B, d]`: the input of each layer, and the last output.
    pub states: Vec<Tensor>,
    /// `[B, 7, bins]`.
    pub logits: Tensor,
}

impl Teacher {
    /// Runs the stack on `input [B, 64]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of(frozen: &Frozen, input: &Tensor) -> Result<Self> {
        let states = frozen.states(input)?;
        let logits = frozen.logits(&states[frozen.layers()])?;
        Ok(Self { states, logits })
    }
}

/// The weights of stage 2's terms. The last three are not in the paper, and may be 0.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weights {
    /// The cost of a layer that runs.
    pub lambda: f64,
    /// The weight of the task's loss with every drawn skip taken completely.
    pub whole: f64,
    /// The weight of stage 1's distance for the drawn skips.
    pub distance: f64,
    /// The cost of p squared for each layer of the gap where a skip is a [`risk`]; p is the
    /// controller's probability.
    pub risk: f64,
}

/// The loss of stage 1, which forces every skip: the mean over the skips of the [`distance`]
/// between the adapter's state and the stack's own state at the end of the skip. `exit` is the
/// layer whose input an exit's adapter takes.
///
/// # Errors
/// Those of candle.
pub fn stage_1(
    networks: &Networks,
    layers: &Layers,
    exit: Option<usize>,
    teacher: &Teacher,
) -> Result<Tensor> {
    let dynamic = |gap: &Gap| {
        let end = gap.end;
        (gap.start..end).map(move |layer| (format!("adapters.{layer}"), layer, end))
    };
    let skips = layers.gaps().iter().flat_map(dynamic);
    let exit = exit.map(|layer| ("exit".to_owned(), layer, layers.len()));
    let skips: Vec<_> = skips.chain(exit).collect();
    let mut sum = Tensor::zeros((), teacher.logits.dtype(), teacher.logits.device())?;
    for (name, from, to) in &skips {
        let got = networks.adapter(name, &teacher.states[*from])?;
        sum = (sum + distance(&got, &teacher.states[*to])?)?;
    }
    sum / skips.len() as f64
}

/// The loss of stage 2. `drawn` is one layer of each gap, where the state becomes `p * adapter + (1
/// - p) * full`; p is the controller's. The loss is that of the task, plus lambda * (1 - p) * the
/// layers that the skip saves, plus the terms of [`Weights`].
///
/// # Errors
/// Those of candle.
pub fn stage_2(
    frozen: &Frozen,
    networks: &Networks,
    layers: &Layers,
    teacher: &Teacher,
    drawn: &[usize],
    weights: Weights,
) -> Result<Tensor> {
    let task = |x: &Tensor| frozen.task_loss(x, &teacher.logits);
    let mut loss = Tensor::zeros((), teacher.logits.dtype(), teacher.logits.device())?;
    let mut x = Way::new(teacher);
    for (gap, &layer) in layers.gaps().iter().zip(drawn) {
        let from = x.to(frozen, layer)?;
        let full = x.to(frozen, gap.end)?;
        let adapted = networks.adapter(&format!("adapters.{layer}"), &from)?;
        let p = networks.controller(layer, &from)?;
        loss = (loss + (runs(&p, gap, layer)? * weights.lambda)?)?;
        if weights.distance > 0.0 {
            let far = distance(&adapted, &full.detach())?;
            loss = (loss + (far * weights.distance)?)?;
        }
        x.set(gap.end, (&full + (adapted - &full)?.broadcast_mul(&p)?)?);
    }
    loss = (loss + task(&x.to(frozen, layers.len())?)?)?;

    if weights.whole > 0.0 || weights.risk > 0.0 {
        let (whole, ran) = whole(frozen, networks, layers, teacher, drawn)?;
        if weights.whole > 0.0 {
            loss = (loss + (task(&whole)? * weights.whole)?)?;
        }
        if weights.risk > 0.0 {
            let risk = risk(&teacher.logits, &frozen.logits(&whole.detach())?)?;
            loss = (loss + caution(networks, layers, teacher, &risk, weights)?)?;
            loss = (loss + (ran * weights.lambda)?)?;
        }
    }
    Ok(loss)
}

/// Returns how many layers that a skip from `layer` saves still run: the mean of 1 - p over the
/// rows, times them.
fn runs(p: &Tensor, gap: &Gap, layer: usize) -> Result<Tensor> {
    p.affine(-1.0, 1.0)?.mean_all()? * (gap.end - layer) as f64
}

/// The term that teaches every controller to tell a risky step from a safe one. It is the mean over
/// rows of lambda * (1 - p) * the layers that a skip saves + w * p^2 * risk * the layers of the
/// gap, summed over the dynamic layers, each on the stack's own state. Its minimum is at p = lambda
/// / (2 w risk) * the share of the gap that the skip saves: a late skip has the risk of an early
/// one, and saves less.
fn caution(
    networks: &Networks,
    layers: &Layers,
    teacher: &Teacher,
    risk: &Tensor,
    weights: Weights,
) -> Result<Tensor> {
    let mut sum = Tensor::zeros((), risk.dtype(), risk.device())?;
    for gap in layers.gaps() {
        for layer in gap.start..gap.end {
            let p = networks.controller(layer, &teacher.states[layer])?;
            let harm = ((p.sqr()? * risk)?.mean_all()? * (gap.end - gap.start) as f64)?;
            sum = (sum + (runs(&p, gap, layer)? * weights.lambda)?)?;
            sum = (sum + (harm * weights.risk)?)?;
        }
    }
    Ok(sum)
}

/// The loss of stage 2 for an exit, which every row takes: the task's loss of the adapter's output
/// for the input of layer `exit`, plus the distance term of a drawn skip.
///
/// # Errors
/// Those of candle.
pub fn exit(
    frozen: &Frozen,
    networks: &Networks,
    exit: usize,
    teacher: &Teacher,
    weights: Weights,
) -> Result<Tensor> {
    let state = networks.adapter("exit", &teacher.states[exit])?;
    let far = distance(&state, &teacher.states[frozen.layers()])?;
    frozen.task_loss(&state, &teacher.logits)? + (far * weights.distance)?
}

/// Returns the last state with every drawn skip taken completely, `[B, d]`, and the layers that
/// controllers after a skip would still have run. The risk after a skip is not counted again, only
/// the layers are.
fn whole(
    frozen: &Frozen,
    networks: &Networks,
    layers: &Layers,
    teacher: &Teacher,
    drawn: &[usize],
) -> Result<(Tensor, Tensor)> {
    let mut x = Way::new(teacher);
    let mut ran = Tensor::zeros((), teacher.logits.dtype(), teacher.logits.device())?;
    for (gap, &layer) in layers.gaps().iter().zip(drawn) {
        let from = x.to(frozen, layer)?;
        if x.own.is_some() {
            let p = networks.controller(layer, &from.detach())?;
            ran = (ran + runs(&p, gap, layer)?)?;
        }
        x.set(
            gap.end,
            networks.adapter(&format!("adapters.{layer}"), &from)?,
        );
    }
    Ok((x.to(frozen, layers.len())?, ran))
}

/// A state on its way through the stack: the teacher's until it is set, and computed from there on.
struct Way<'a> {
    teacher: &'a Teacher,
    own: Option<(usize, Tensor)>,
}

impl<'a> Way<'a> {
    fn new(teacher: &'a Teacher) -> Self {
        Self { teacher, own: None }
    }

    /// Returns the input of `layer`.
    fn to(&mut self, frozen: &Frozen, layer: usize) -> Result<Tensor> {
        match &self.own {
            None => Ok(self.teacher.states[layer].clone()),
            Some((at, x)) => {
                let x = frozen.run(*at..layer, x)?;
                self.set(layer, x.clone());
                Ok(x)
            }
        }
    }

    fn set(&mut self, layer: usize, x: Tensor) {
        self.own = Some((layer, x));
    }
}

/// Returns the Frobenius norm of `got - wanted`, `[B, d]`, divided by that of `wanted`.
///
/// # Errors
/// Those of candle.
pub fn distance(got: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt();
    norm(&(got - wanted)?)? / norm(wanted)?
}

/// Returns the root mean square distance, `[B, 1]`, between an action drawn from `teacher`'s
/// logits, `[B, 7, bins]`, and one drawn from `skipped`'s, without a gradient.
///
/// It shows how far an action may be off where the stack is undecided between distant actions. An
/// adapter that has learned its training rows does not show that on them, but does on other rows.
///
/// # Errors
/// Those of candle.
pub fn risk(teacher: &Tensor, skipped: &Tensor) -> Result<Tensor> {
    let bins = teacher.dim(D::Minus1)?;
    let values: Vec<f64> = (0..bins)
        .map(|k| -1.0 + 2.0 * k as f64 / (bins - 1) as f64)
        .collect();
    let values = Tensor::new(values, teacher.device())?.to_dtype(teacher.dtype())?;
    let moments = |logits: &Tensor| {
        let p = ops::softmax(&logits.detach(), D::Minus1)?;
        let mean = p.broadcast_mul(&values)?.sum(D::Minus1)?;
        let square = p.broadcast_mul(&values.sqr()?)?.sum(D::Minus1)?;
        let variance = (square - mean.sqr()?)?;
        Ok::<_, candle_core::Error>((mean, variance))
    };
    let ((mean, variance), (other_mean, other)) = (moments(teacher)?, moments(skipped)?);
    let squares = ((variance + other)? + (mean - other_mean)?.sqr()?)?;
    squares.sum_keepdim(D::Minus1)?.sqrt()
}

/// Draws one layer of each gap. The k-th layer of a gap has the weight 1/k.
pub fn draw(layers: &Layers, rng: &mut impl Rng) -> Vec<usize> {
    let one = |gap: &Gap| {
        let weights = (1..=gap.end - gap.start).map(|k| 1.0 / k as f64);
        let index = WeightedIndex::new(weights).expect("a gap has a layer, weights are positive");
        gap.start + index.sample(rng)
    };
    layers.gaps().iter().map(one).collect()
}
