//! A control step over a stack of layers, some of them skipped.

use super::guide::check_chunk;
use super::{Guide, Judgment, Layers, SkipConfig};
use crate::Error;

/// With an error of any kind.
type Result<T, E = Error> = std::result::Result<T, E>;

/// Layers that run one after the other on a hidden state, and what stands beside them.
///
/// The hidden state is the stack's own; a [`Skipper`] only says what happens to it next. A step is: [`embed`](Self::embed), the
/// layers in order, [`actions`](Self::actions), and the same once more if verification asks for it.
///
/// There are two: `crates/w4ax-robot/src/skipping.rs`, a policy on the backends' GEMMs, an action a step, and `crates/w4ax-robot/tests/llama/stack.rs`, a decoder on
/// candle's tensors, 8 actions a step; with the feature `candle` candle's error can be the stack's. On a GPU that decides by itself,
/// `w4ax::cuda::SkipGraph` stands in the place of both.
pub trait LayerStack {
    /// What the stack's own calls answer when they fail.
    type Error: From<Error>;

    /// How many layers there are.
    fn layers(&self) -> usize;

    /// Makes the hidden state of this step's input: the input of layer 0. Twice in a step if it runs again.
    ///
    /// # Errors
    /// The stack's own.
    fn embed(&mut self) -> Result<(), Self::Error>;

    /// Runs a layer on the hidden state.
    ///
    /// # Errors
    /// The stack's own.
    fn run(&mut self, layer: usize) -> Result<(), Self::Error>;

    /// The controller of a dynamic layer, on the layer's input: the probability that the rest of its gap may be skipped.
    ///
    /// # Errors
    /// The stack's own.
    fn skip_probability(&mut self, layer: usize) -> Result<f32, Self::Error>;

    /// The adapter of layer `from`: makes the input of layer `to` (of the head, if there is no such layer) from that of `from`.
    ///
    /// # Errors
    /// The stack's own.
    fn adapt(&mut self, from: usize, to: usize) -> Result<(), Self::Error>;

    /// The actions of the hidden state, `[n, 7]` row-major.
    ///
    /// # Errors
    /// The stack's own.
    fn actions(&mut self, actions: &mut [f64]) -> Result<(), Self::Error>;
}

/// What became of a layer in a step's first pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It did not run: the step failed before it, or in it.
    NotReached,
    /// It ran: it is static.
    Static,
    /// It ran: it lies before its gap's allow-point.
    Forced,
    /// It ran: its controller gave this probability of skipping.
    Declined(f32),
    /// It did not run: its controller gave this probability, and its adapter stands for it and the rest of the gap.
    Skipped(f32),
    /// It did not run: the adapter of this layer before it stands for it.
    Covered(usize),
}

impl Fate {
    /// Whether the layer ran.
    pub const fn ran(self) -> bool {
        matches!(self, Self::Static | Self::Forced | Self::Declined(_))
    }
}

/// What verification has said of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the step failed before there were good actions.
    NotReached,
    /// No first drop.
    Passed,
    /// A first drop: the step ran again, with nothing skipped, and that action counts, if none of it failed.
    RanAgain,
    /// A first drop, of an action for which nothing was skipped: it would come out again.
    NothingSkipped,
}

/// What a step did, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SkipReport {
    /// By layer, in the first pass.
    pub fates: Vec<Fate>,
    /// By gap: the allow-points that the step had.
    pub allow_points: Vec<usize>,
    /// Layers that ran, those of a second pass counted.
    pub layers_run: usize,
    /// Whether the step ran again.
    pub verdict: Verdict,
    /// Of the action that was used. Of a step that failed, the first pass's, or all 0 if there was none.
    pub judgment: Judgment,
}

impl SkipReport {
    /// No step, of so many layers.
    fn new(layers: usize, allow_points: &[usize]) -> Self {
        Self {
            fates: vec![Fate::NotReached; layers],
            allow_points: allow_points.to_vec(),
            layers_run: 0,
            verdict: Verdict::NotReached,
            judgment: Judgment::NONE,
        }
    }

    /// A step begins: nothing of the last one stays, whatever this one comes to.
    fn begin(&mut self, allow_points: &[usize]) {
        self.fates.fill(Fate::NotReached);
        self.allow_points.copy_from_slice(allow_points);
        self.layers_run = 0;
        self.verdict = Verdict::NotReached;
        self.judgment = Judgment::NONE;
    }
}

/// Runs control steps over a [`LayerStack`]. Nothing is allocated in a step.
///
/// ```
/// use w4ax::skip::{Fate, LayerStack, Layers, SkipConfig, Skipper};
///
/// /// Four layers that add 1 each; the adapters know it.
/// struct Counting(f64);
///
/// impl LayerStack for Counting {
///     type Error = w4ax::Error;
///     fn layers(&self) -> usize {
///         4
///     }
///     fn embed(&mut self) -> w4ax::Result<()> {
///         self.0 = 0.0;
///         Ok(())
///     }
///     fn run(&mut self, _layer: usize) -> w4ax::Result<()> {
///         self.0 += 1.0;
///         Ok(())
///     }
///     fn skip_probability(&mut self, layer: usize) -> w4ax::Result<f32> {
///         Ok(if layer == 2 { 0.9 } else { 0.1 })
///     }
///     fn adapt(&mut self, from: usize, to: usize) -> w4ax::Result<()> {
///         self.0 += (to - from) as f64;
///         Ok(())
///     }
///     fn actions(&mut self, actions: &mut [f64]) -> w4ax::Result<()> {
///         actions.fill(self.0 / 4.0);
///         Ok(())
///     }
/// }
///
/// # fn main() -> w4ax::Result<()> {
/// let mut skipper = Skipper::new(&SkipConfig::default(), Layers::new(4, &[0])?)?;
/// let mut action = [0.0; 7];
/// let report = skipper.step(&mut Counting(0.0), &mut action)?;
/// assert_eq!(report.fates, [Fate::Static, Fate::Declined(0.1), Fate::Skipped(0.9), Fate::Covered(2)]);
/// assert_eq!((report.layers_run, action), (2, [1.0; 7]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Skipper {
    layers: Layers,
    guide: Guide,
    report: SkipReport,
}

impl Skipper {
    /// At the start of an episode.
    ///
    /// # Errors
    /// As [`SkipConfig::validate`].
    pub fn new(config: &SkipConfig, layers: Layers) -> Result<Self> {
        let guide = Guide::new(config, &layers)?;
        let report = SkipReport::new(layers.len(), guide.allow_points());
        Ok(Self {
            layers,
            guide,
            report,
        })
    }

    /// The layers of the stacks that it runs.
    pub const fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The trajectory's say.
    pub const fn guide(&self) -> &Guide {
        &self.guide
    }

    /// What the last step did. Of a step that failed, what it did until then; [`Fate::NotReached`] throughout before any.
    pub const fn report(&self) -> &SkipReport {
        &self.report
    }

    /// The start of an episode.
    pub fn reset(&mut self) {
        self.guide.reset();
    }

    /// One control step: its actions come into `actions`, `[n, 7]` row-major, and enter the history.
    ///
    /// # Errors
    /// - [`Error::Shape`] for a stack of another number of layers, or actions that are no whole number of them: nothing has
    ///   changed then;
    /// - the stack's own, and those of [`Guide::observe`] for actions that are not finite. After one of these nothing is skipped until
    ///   the window is full again.
    pub fn step<S: LayerStack>(
        &mut self,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<&SkipReport, S::Error> {
        if stack.layers() != self.layers.len() {
            return Err(S::Error::from(Error::Shape {
                what: "stack",
                expected: format!("{} layers", self.layers.len()),
                got: stack.layers().to_string(),
            }));
        }
        check_chunk(actions)?;
        self.report.begin(self.guide.allow_points());
        match self.passes(stack, actions) {
            Ok(()) => Ok(&self.report),
            Err(error) => {
                self.guide.fail();
                Err(error)
            }
        }
    }

    /// The report is kept as it goes: an error leaves what was done until then.
    fn passes<S: LayerStack>(
        &mut self,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<(), S::Error> {
        self.pass(stack)?;
        stack.actions(actions)?;
        let mut followed = self.guide.follow(actions)?;
        self.report.judgment = followed.judgment;
        self.report.verdict = match followed.judgment.drops {
            false => Verdict::Passed,
            true if self.report.layers_run == self.layers.len() => Verdict::NothingSkipped,
            true => Verdict::RanAgain,
        };
        if self.report.verdict == Verdict::RanAgain {
            stack.embed()?;
            for layer in 0..self.layers.len() {
                stack.run(layer)?;
                self.report.layers_run += 1;
            }
            stack.actions(actions)?;
            followed = self.guide.follow(actions)?;
            self.report.judgment = followed.judgment;
        }
        self.guide.take(followed);
        Ok(())
    }

    /// The layers by the allow-points and the controllers.
    fn pass<S: LayerStack>(&mut self, stack: &mut S) -> Result<(), S::Error> {
        stack.embed()?;
        let threshold = self.guide.config().threshold;
        let mut layer = 0;
        while layer < self.layers.len() {
            let fate = match self.layers.gap_of(layer) {
                None => Fate::Static,
                Some(gap) if layer < self.guide.allow_points()[gap] => Fate::Forced,
                Some(gap) => {
                    let p = stack.skip_probability(layer)?;
                    // Not for NaN.
                    if p > threshold {
                        let end = self.layers.gaps()[gap].end;
                        stack.adapt(layer, end)?;
                        self.report.fates[layer..end].fill(Fate::Covered(layer));
                        self.report.fates[layer] = Fate::Skipped(p);
                        layer = end;
                        continue;
                    }
                    Fate::Declined(p)
                }
            };
            stack.run(layer)?;
            self.report.fates[layer] = fate;
            self.report.layers_run += 1;
            layer += 1;
        }
        Ok(())
    }
}
