//! A control step over a stack of layers, with some layers skipped.

use super::guide::Evaluated;
use super::{Guide, Judgment, Layers, SkipConfig};
use crate::Error;
use crate::dispatch::split_rows;

type Result<T, E = Error> = std::result::Result<T, E>;

/// A stack of layers that run in order on a hidden state, with adapters and controllers.
///
/// The stack owns the hidden state, and a [`Skipper`] calls its methods. A step calls
/// [`embed`](Self::embed), the layers in order, then [`actions`](Self::actions). Verification may
/// repeat all of it.
///
/// With feature `candle`, [`Error`](Self::Error) may be candle's error. `w4ax::cuda::SkipGraph`
/// runs a stack on a GPU and decides on the device; it does not use this trait.
pub trait LayerStack {
    /// The error of the stack's methods.
    type Error: From<Error>;

    /// Returns the number of layers.
    fn layers(&self) -> usize;

    /// Computes the hidden state of this step's input, which is the input of layer 0. Called twice
    /// in a step that runs again.
    ///
    /// # Errors
    /// Defined by the stack.
    fn embed(&mut self) -> Result<(), Self::Error>;

    /// Runs a layer on the hidden state.
    ///
    /// # Errors
    /// Defined by the stack.
    fn run(&mut self, layer: usize) -> Result<(), Self::Error>;

    /// Runs the controller of a dynamic layer on the layer's input. Returns the probability that
    /// the rest of the gap may be skipped.
    ///
    /// # Errors
    /// Defined by the stack.
    fn skip_probability(&mut self, layer: usize) -> Result<f32, Self::Error>;

    /// Runs the adapter of layer `from`: replaces the input of layer `from` by the input of layer
    /// `to`. If `to` is the number of layers, the result is the input of the head.
    ///
    /// # Errors
    /// Defined by the stack.
    fn adapt(&mut self, from: usize, to: usize) -> Result<(), Self::Error>;

    /// Writes the actions of the hidden state to `actions`, `[n, dims]` row-major.
    ///
    /// # Errors
    /// Defined by the stack.
    fn actions(&mut self, actions: &mut [f64]) -> Result<(), Self::Error>;
}

/// What happened to a layer in the first pass of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fate {
    /// The layer did not run, because the step failed before it or in it.
    NotReached,
    /// The layer ran, because it is static.
    Static,
    /// The layer ran, because it is before its gap's allow-point.
    Forced,
    /// The layer ran, because its controller returned this probability of skipping.
    Declined(f32),
    /// The layer did not run. Its controller returned this probability, and its adapter replaced
    /// this layer and the rest of the gap.
    Skipped(f32),
    /// The layer did not run. The adapter of this earlier layer replaced it.
    Covered(usize),
}

impl Fate {
    /// Returns whether the layer ran.
    pub const fn ran(self) -> bool {
        matches!(self, Self::Static | Self::Forced | Self::Declined(_))
    }
}

/// The result of a step's verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The step failed before it produced valid actions.
    NotReached,
    /// The continuity did not drop.
    Passed,
    /// The continuity dropped, so the step ran again with no layer skipped. The actions of the
    /// second pass are used, unless it failed.
    RanAgain,
    /// The continuity dropped, but no layer was skipped. A second pass would give the same actions.
    NothingSkipped,
    /// The continuity dropped in [`Skipper::try_step`], so the caller must run the step again:
    /// [`Skipper::run_again`].
    MustRunAgain,
}

/// What a step ran, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SkipReport {
    /// `[layers]`: what happened to each layer in the first pass.
    pub fates: Vec<Fate>,
    /// `[gaps]`: the allow-points of the step.
    pub allow_points: Vec<usize>,
    /// Number of layers that ran, including those of a second pass.
    pub layers_run: usize,
    /// The result of the verification.
    pub verdict: Verdict,
    /// The judgment of the actions that were used. If the step failed: that of the first pass, or
    /// all 0 without one.
    pub judgment: Judgment,
}

impl SkipReport {
    /// Creates the report before the first step.
    fn new(layers: usize, allow_points: &[usize]) -> Self {
        Self {
            fates: vec![Fate::NotReached; layers],
            allow_points: allow_points.to_vec(),
            layers_run: 0,
            verdict: Verdict::NotReached,
            judgment: Judgment::NONE,
        }
    }

    /// Clears the report at the beginning of a step.
    fn begin(&mut self, allow_points: &[usize]) {
        self.fates.fill(Fate::NotReached);
        self.allow_points.copy_from_slice(allow_points);
        self.layers_run = 0;
        self.verdict = Verdict::NotReached;
        self.judgment = Judgment::NONE;
    }
}

/// Runs control steps over a [`LayerStack`]. A step allocates nothing.
///
/// ```
/// use w4ax::skip::{Fate, LayerStack, Layers, SkipConfig, Skipper};
///
/// /// Four layers that add 1 each. An adapter adds the number of layers that it replaces.
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
/// let fates = [Fate::Static, Fate::Declined(0.1), Fate::Skipped(0.9), Fate::Covered(2)];
/// assert_eq!(report.fates, fates);
/// assert_eq!((report.layers_run, action), (2, [1.0; 7]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Skipper {
    layers: Layers,
    guide: Guide,
    report: SkipReport,
    /// The evaluation of the pass of [`Skipper::try_step`], until it is accepted.
    pending: Option<Evaluated>,
}

impl Skipper {
    /// Creates a skipper at the start of an episode.
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
            pending: None,
        })
    }

    /// Returns the layers of the stack.
    pub const fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the guide, with the allow-points and the history.
    pub const fn guide(&self) -> &Guide {
        &self.guide
    }

    /// Returns the report of the last step, which covers a failed step up to the failure. Before
    /// the first step every fate is [`Fate::NotReached`].
    pub const fn report(&self) -> &SkipReport {
        &self.report
    }

    /// Starts an episode.
    pub fn reset(&mut self) {
        self.guide.reset();
        self.pending = None;
    }

    /// Runs one control step, writes its actions to `actions`, `[n, dims]` row-major, and adds them
    /// to the history. It is [`try_step`](Self::try_step), [`run_again`](Self::run_again) if that
    /// is necessary, and [`accept`](Self::accept).
    ///
    /// # Errors
    /// As these three.
    pub fn step<S: LayerStack>(
        &mut self,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<&SkipReport, S::Error> {
        if self.try_step(stack, actions)?.verdict == Verdict::MustRunAgain {
            self.run_again(stack, actions)?;
        }
        self.accept();
        Ok(&self.report)
    }

    /// Runs the first pass of a control step, with skipped layers, and judges its actions, without
    /// adding them to the history. A caller with checks of its own then calls either
    /// [`accept`](Self::accept), or [`run_again`](Self::run_again) and `accept`. If the verdict is
    /// [`Verdict::MustRunAgain`], the first pass must not be accepted.
    ///
    /// # Errors
    /// - [`Error::Shape`] if the stack has another number of layers, or the length of `actions` is
    ///   not a positive multiple of [`SkipConfig::dims`]. Nothing has changed then.
    /// - The errors of the stack, and those of [`Guide::observe`]. Skipping is disabled after them
    ///   until the window is full again.
    pub fn try_step<S: LayerStack>(
        &mut self,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<&SkipReport, S::Error> {
        self.check(stack, actions)?;
        self.report.begin(self.guide.allow_points());
        self.pending = None;
        let ran = self.pass(stack);
        self.end_pass(ran, stack, actions)?;
        self.report.verdict = match self.report.judgment.drops {
            false => Verdict::Passed,
            true if self.report.layers_run == self.layers.len() => Verdict::NothingSkipped,
            true => Verdict::MustRunAgain,
        };
        Ok(&self.report)
    }

    /// Runs the second pass of the step that [`try_step`](Self::try_step) began, with no layer
    /// skipped.
    ///
    /// # Errors
    /// As [`try_step`](Self::try_step).
    pub fn run_again<S: LayerStack>(
        &mut self,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<&SkipReport, S::Error> {
        self.check(stack, actions)?;
        self.report.verdict = Verdict::RanAgain;
        let ran = self.run_all(stack);
        self.end_pass(ran, stack, actions)?;
        Ok(&self.report)
    }

    /// Adds the actions of the last pass to the history. Does nothing without a pass.
    pub fn accept(&mut self) {
        if let Some(evaluated) = self.pending.take() {
            self.guide.commit(evaluated);
        }
    }

    fn check<S: LayerStack>(&self, stack: &S, actions: &[f64]) -> Result<(), S::Error> {
        if stack.layers() != self.layers.len() {
            let error = Error::shape("stack", [self.layers.len()], [stack.layers()]);
            return Err(S::Error::from(error));
        }
        let _rows = split_rows("actions", self.guide.config().dims(), actions)?;
        Ok(())
    }

    /// Judges the actions of a pass that succeeded. After an error, the history is invalid.
    fn end_pass<S: LayerStack>(
        &mut self,
        ran: Result<(), S::Error>,
        stack: &mut S,
        actions: &mut [f64],
    ) -> Result<(), S::Error> {
        let evaluated = ran
            .and_then(|()| stack.actions(actions))
            .and_then(|()| Ok(self.guide.evaluate(actions)?));
        match evaluated {
            Ok(evaluated) => {
                self.report.judgment = evaluated.judgment;
                self.pending = Some(evaluated);
                Ok(())
            }
            Err(error) => {
                self.pending = None;
                self.guide.fail();
                Err(error)
            }
        }
    }

    /// Runs all layers.
    fn run_all<S: LayerStack>(&mut self, stack: &mut S) -> Result<(), S::Error> {
        stack.embed()?;
        for layer in 0..self.layers.len() {
            stack.run(layer)?;
            self.report.layers_run += 1;
        }
        Ok(())
    }

    /// Runs or skips each layer by the allow-points and the controllers.
    fn pass<S: LayerStack>(&mut self, stack: &mut S) -> Result<(), S::Error> {
        stack.embed()?;
        let threshold = self.guide.config().threshold();
        let mut layer = 0;
        while layer < self.layers.len() {
            let fate = match self.layers.gap_of(layer) {
                None => Fate::Static,
                Some(gap) if layer < self.guide.allow_points()[gap] => Fate::Forced,
                Some(gap) => {
                    let p = stack.skip_probability(layer)?;
                    // False for NaN: the layer runs.
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
