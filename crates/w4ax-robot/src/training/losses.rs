//! The two losses of the distillation, and the draw of the layers that stage 2 skips from.

use candle_core::{D, Result, Tensor};
use candle_nn::ops;
use rand::Rng;
use rand::distr::{Distribution, weighted::WeightedIndex};
use w4ax::skip::{Gap, Layers};

use super::frozen::Frozen;
use super::networks::Networks;

/// What the frozen stack gives for a batch.
pub struct Teacher {
    /// `[n + 1][B, d]`: the input of each layer, and the last one's output.
    pub states: Vec<Tensor>,
    /// `[B, 7, bins]`.
    pub logits: Tensor,
}

impl Teacher {
    /// Runs the stack on `input [B, 64]`.
    ///
    /// # Errors
    /// candle's.
    pub fn of(frozen: &Frozen, input: &Tensor) -> Result<Self> {
        let states = frozen.states(input)?;
        let logits = frozen.logits(&states[frozen.layers()])?;
        Ok(Self { states, logits })
    }
}

/// What stage 2 weighs its terms by. The last three are no part of the paper's loss, and may be 0.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weights {
    /// What a layer that runs costs.
    pub lambda: f64,
    /// Of the task's loss with every drawn skip taken whole.
    pub whole: f64,
    /// Of stage 1's distance, for the drawn skips.
    pub distance: f64,
    /// Of what a controller's p squared costs where a skip is a [`risk`], for each layer of the gap.
    pub risk: f64,
}

/// Stage 1, every skip forced: the mean over the skips of [`distance`] from the adapter's state to the stack's own where
/// the skip leads to. `exit` is the layer that an exit's adapter starts from.
///
/// # Errors
/// candle's.
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

/// Stage 2: `drawn` holds one layer of each gap, where `p * adapter + (1 - p) * full` goes on, p the controller's. The loss
/// is the task's, plus lambda * (1 - p) * the layers that the skip saves, plus what [`Weights`] adds.
///
/// # Errors
/// candle's.
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

/// How many of the layers that a skip from `layer` saves still run: the mean over rows of 1 - p, times them.
fn runs(p: &Tensor, gap: &Gap, layer: usize) -> Result<Tensor> {
    p.affine(-1.0, 1.0)?.mean_all()? * (gap.end - layer) as f64
}

/// What makes every controller, the drawn ones or not, tell a risky step from a safe one: the mean over rows of lambda *
/// (1 - p) * the layers that a skip saves + w * p^2 * risk * the layers of the gap, summed over the dynamic layers, each on
/// the stack's own state. It is least at p = lambda / (2 w risk) * the share of the gap that the skip saves: a late skip
/// risks as much as an early one, and gains less.
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

/// Stage 2 of an exit, which always leaves: the task's loss of what its adapter makes of the input of layer `exit`, and as much of its distance as a drawn
/// skip's.
///
/// # Errors
/// candle's.
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

/// The stack's last state with every drawn skip taken whole, `[B, d]`, and the layers that the controllers behind a skip
/// would still have run: what that skip risks is risked already, so that there only the layers count.
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

/// A state on its way through the stack: the teacher's own until it is set, computed from then on.
struct Way<'a> {
    teacher: &'a Teacher,
    own: Option<(usize, Tensor)>,
}

impl<'a> Way<'a> {
    fn new(teacher: &'a Teacher) -> Self {
        Self { teacher, own: None }
    }

    /// The input of `layer`.
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

/// The Frobenius norm of `got - wanted`, `[B, d]`, as a share of `wanted`'s.
///
/// # Errors
/// candle's.
pub fn distance(got: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt();
    norm(&(got - wanted)?)? / norm(wanted)?
}

/// `[B, 1]`: the root mean square distance of an action drawn by `teacher`'s logits, `[B, 7, bins]`, to one drawn by `skipped`'s; no gradient.
///
/// How far an action may be off where the stack wavers between actions far apart: an adapter that has learnt its training rows shows none of it on
/// them, but does on others.
///
/// # Errors
/// candle's.
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

/// One layer of each gap, the gap's k-th one with a weight of 1/k.
pub fn draw(layers: &Layers, rng: &mut impl Rng) -> Vec<usize> {
    let one = |gap: &Gap| {
        let weights = (1..=gap.end - gap.start).map(|k| 1.0 / k as f64);
        let index = WeightedIndex::new(weights).expect("a gap has a layer, weights are positive");
        gap.start + index.sample(rng)
    };
    layers.gaps().iter().map(one).collect()
}
