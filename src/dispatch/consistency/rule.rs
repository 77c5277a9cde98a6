//! The rule: decides a profile, verifies its action, observes what was executed.

use super::config::ConsistencyConfig;
use super::online::OnlineUncertainty;
use crate::dispatch::kinematics::{Kinematics, check_finite};
use crate::dispatch::layout::{MAX_ACTION, widen};
use crate::{Error, Result, Width};

/// One of the two profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The cheap profile.
    Low,
    /// The accurate profile.
    High,
}

/// The reason for the profile of a step's first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsistencyReason {
    /// No action was observed yet: high.
    Start,
    /// An invalid action was observed: high.
    Fault,
    /// Both profiles have the same width: high.
    Static,
    /// The last `refresh` steps were accepted low runs: high.
    Refresh,
    /// The uncertainty of the last step is unknown, or its distribution: high.
    NoUncertainty,
    /// The policy was uncertain in the last step: high.
    Gate,
    /// The low profile is tried.
    Try,
}

/// The profile of a step's first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsistencyDecision {
    /// The profile.
    pub profile: Profile,
    /// Its step width.
    pub width: Width,
    /// The reason for it.
    pub reason: ConsistencyReason,
}

/// The check of a run's action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConsistencyCheck {
    /// Whether the action may be executed. Otherwise the step must run again at the high profile.
    pub accepted: bool,
    /// The distance to the last action in action units. `None` after a run at the high profile,
    /// which is not compared, and for invalid actions.
    pub distance: Option<f64>,
    /// The tolerance in action units. `None` after a run at the high profile.
    pub tolerance: Option<f64>,
}

/// Guards the order of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A low run is not verified yet.
    Trying,
}

/// Decides the profile of each step from its consistency with the last action.
///
/// See the [module](super) for the order of calls and the formulas.
///
/// ```
/// use w4ax::dispatch::{ConsistencyConfig, ConsistencyRule, MotionScale, Profile};
/// # fn main() -> w4ax::Result<()> {
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let mut rule = ConsistencyRule::new(&ConsistencyConfig::new(motion))?;
/// let policy = |profile| match profile {
///     Profile::Low => [0.52, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], // A noisy action.
///     Profile::High => [0.5f64, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
/// };
/// for step in 0..3 {
///     let mut profile = rule.decide().profile;
///     let mut action = policy(profile);
///     if !rule.verify(&action).accepted {
///         profile = Profile::High;
///         action = policy(profile);
///     }
///     assert_eq!(profile, if step == 0 { Profile::High } else { Profile::Low });
///     rule.command(&mut action, profile);
///     rule.observe(&action, profile, None)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConsistencyRule {
    config: ConsistencyConfig,
    kinematics: Kinematics,
    /// `[dims]`: the last executed action, if there is one.
    last: [f64; MAX_ACTION],
    has_last: bool,
    last_profile: Profile,
    /// The uncertainty of the last executed run, if it is known and finite.
    uncertainty: Option<f64>,
    /// `[planned, dims]`: the actions of the last chunk that were not executed. It never grows
    /// beyond its capacity.
    planned: Vec<f64>,
    /// Accepted low runs in a row.
    run: u32,
    phase: Phase,
    fault: bool,
    online: Option<Box<OnlineUncertainty>>,
}

impl ConsistencyRule {
    /// With an online distribution of the uncertainty, the number of steps at a profile from which
    /// on it is used.
    pub const ONLINE_SAMPLES: u64 = OnlineUncertainty::MIN_SAMPLES;

    /// Creates a rule at the start of an episode.
    ///
    /// # Errors
    /// As [`ConsistencyConfig::validate`].
    pub fn new(config: &ConsistencyConfig) -> Result<Self> {
        config.validate()?;
        let kinematics = Kinematics::new(config.kinematics())?;
        Ok(Self {
            config: config.clone(),
            kinematics,
            last: [0.0; MAX_ACTION],
            has_last: false,
            last_profile: Profile::High,
            uncertainty: None,
            planned: Vec::with_capacity(config.max_chunk() * config.layout().dims()),
            run: 0,
            phase: Phase::Idle,
            fault: false,
            online: None,
        })
    }

    /// Keeps the distribution of the uncertainty online, in place of the quantiles of a
    /// calibration. Quantiles in the configuration have precedence: this has no effect then.
    ///
    /// The gate is that of the configuration, or [`ConsistencyConfig::GATE`] if it is 1. Every step
    /// runs at the high profile until [`ONLINE_SAMPLES`](Self::ONLINE_SAMPLES) of them have an
    /// uncertainty. An uncertainty of the low profile is compared with those of the high profile
    /// until there are as many of its own.
    ///
    /// The distribution outlasts [`reset`](Self::reset) and faults, because it belongs to the
    /// policy. The sketches take about 20 KB, which this call allocates.
    #[must_use]
    pub fn with_online_uncertainty(mut self) -> Self {
        if self.config.quantiles().is_none() {
            self.online = Some(Box::new(OnlineUncertainty::new()));
        }
        self
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &ConsistencyConfig {
        &self.config
    }

    /// Returns the sensitivity S of the executed actions, or `None` without motion.
    pub fn sensitivity(&self) -> Option<f64> {
        (!self.kinematics.is_empty()).then(|| self.kinematics.sensitivity())
    }

    /// Returns whether the rule uses the uncertainty of a run: whether it has a gate.
    pub fn uses_uncertainty(&self) -> bool {
        self.gate().is_some()
    }

    /// Returns the step width of a profile.
    pub const fn width(&self, profile: Profile) -> Width {
        match profile {
            Profile::Low => self.config.low(),
            Profile::High => self.config.high(),
        }
    }

    /// Returns the profile of the next step's first run. Call it once per step or chunk.
    pub fn decide(&mut self) -> ConsistencyDecision {
        let reason = self.reason();
        let profile = match reason {
            ConsistencyReason::Try => Profile::Low,
            _ => Profile::High,
        };
        self.phase = match profile {
            Profile::Low => Phase::Trying,
            Profile::High => Phase::Idle,
        };
        ConsistencyDecision {
            profile,
            width: self.width(profile),
            reason,
        }
    }

    fn reason(&self) -> ConsistencyReason {
        if self.fault {
            return ConsistencyReason::Fault;
        }
        if !self.has_last {
            return ConsistencyReason::Start;
        }
        if self.config.low() == self.config.high() {
            return ConsistencyReason::Static;
        }
        if self.config.refresh() > 0 && self.run >= self.config.refresh() {
            return ConsistencyReason::Refresh;
        }
        if let Some(gate) = self.gate() {
            match self.uncertainty.and_then(|u| self.rank(u)) {
                None => return ConsistencyReason::NoUncertainty,
                Some(rank) if rank > gate => return ConsistencyReason::Gate,
                Some(_) => (),
            }
        }
        ConsistencyReason::Try
    }

    /// Returns the rank of the uncertainty above which the low profile is not tried, if there is a
    /// gate.
    fn gate(&self) -> Option<f64> {
        let below_one = (self.config.gate() < 1.0).then(|| self.config.gate());
        match (self.config.quantiles(), &self.online) {
            (Some(_), _) => below_one,
            (None, Some(_)) => Some(below_one.unwrap_or(ConsistencyConfig::GATE)),
            (None, None) => None,
        }
    }

    /// Returns the rank of the last step's uncertainty, if its distribution is known.
    fn rank(&self, uncertainty: f64) -> Option<f64> {
        match (self.config.quantiles(), &self.online) {
            (Some(quantiles), _) => Some(quantiles.rank(self.last_profile, uncertainty)),
            (None, online) => (online.as_ref())?.rank(self.last_profile, uncertainty),
        }
    }

    /// Checks the action of a run, `[dims]` by the layout, or its chunk, `[n, dims]`.
    ///
    /// After a decision for the high profile, and after a check that was not accepted, every action
    /// is accepted: a result at the high profile is final. An invalid one fails in
    /// [`observe`](Self::observe).
    pub fn verify<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> ConsistencyCheck {
        if std::mem::replace(&mut self.phase, Phase::Idle) == Phase::Idle {
            return ConsistencyCheck {
                accepted: true,
                distance: None,
                tolerance: None,
            };
        }
        let distance = self.distance(actions);
        let tolerance = self.config.tolerance().at(self.kinematics.sensitivity());
        ConsistencyCheck {
            accepted: distance.is_some_and(|distance| distance <= tolerance),
            distance,
            tolerance: Some(tolerance),
        }
    }

    /// Returns the distance of a chunk to the actions that are known for its times, or `None` if it
    /// is invalid.
    fn distance<T: Copy + Into<f64>>(&self, actions: &[T]) -> Option<f64> {
        let dims = self.config.layout().dims();
        let whole = !actions.is_empty() && actions.len().is_multiple_of(dims);
        if !whole || actions.iter().any(|&x| !x.into().is_finite()) {
            return None;
        }
        let known = match self.planned.is_empty() {
            true => &self.last[..dims],
            false => &self.planned,
        };
        let pairs = actions.chunks(dims).zip(known.chunks(dims));
        let count = pairs.len() as f64;
        let distance = |(a, b): (&[T], &[f64])| {
            let squares = a
                .iter()
                .zip(b)
                .map(|(&a, b)| (a.into() - b) * (a.into() - b));
            squares.sum::<f64>().sqrt()
        };
        let mean = pairs.map(distance).sum::<f64>() / count;
        mean.is_finite().then_some(mean)
    }

    /// Limits accepted actions, `[n, dims]`, in place: a low action moves only `alpha` of the way
    /// from what is known for its time. High actions, and actions for times without a known action,
    /// do not change.
    pub fn command(&self, actions: &mut [f64], profile: Profile) {
        if profile == Profile::High || self.config.alpha() == 1.0 || !self.has_last {
            return;
        }
        let dims = self.config.layout().dims();
        let known = match self.planned.is_empty() {
            true => &self.last[..dims],
            false => &self.planned,
        };
        for (action, known) in actions.iter_mut().zip(known) {
            *action = known + self.config.alpha() * (*action - known);
        }
    }

    /// Adds the executed action, `[dims]`, the profile of the run that produced it, and the
    /// uncertainty of that run in action units, if it is known.
    ///
    /// # Errors
    /// As [`observe_chunk`](Self::observe_chunk).
    pub fn observe<T: Copy + Into<f64>>(
        &mut self,
        action: &[T],
        profile: Profile,
        uncertainty: Option<f64>,
    ) -> Result<()> {
        self.observe_chunk(action, 1, profile, uncertainty)
    }

    /// Adds a chunk, `[n, dims]`, of which the first `executed` actions were executed. The others
    /// are compared with the next chunk.
    ///
    /// # Errors
    /// - [`Error::Shape`] if the chunk is not whole actions of the layout, has fewer than
    ///   `executed` or none executed, or more than [`ConsistencyConfig::max_chunk`] actions.
    /// - [`Error::NotFinite`] and [`Error::Range`] as
    ///   [`Dispatcher::observe`](crate::dispatch::Dispatcher::observe).
    ///
    /// After an error the history is empty, and every step runs at the high profile until a valid
    /// action is observed.
    pub fn observe_chunk<T: Copy + Into<f64>>(
        &mut self,
        chunk: &[T],
        executed: usize,
        profile: Profile,
        uncertainty: Option<f64>,
    ) -> Result<()> {
        let observed = self.push(chunk, executed);
        if observed.is_err() {
            self.reset();
            self.fault = true;
            return observed;
        }
        self.last_profile = profile;
        self.uncertainty = uncertainty.filter(|u| u.is_finite());
        if let Some((online, uncertainty)) = self.online.as_mut().zip(self.uncertainty) {
            online.add(profile, uncertainty);
        }
        self.run = match profile {
            Profile::Low => self.run.saturating_add(1),
            Profile::High => 0,
        };
        self.fault = false;
        self.phase = Phase::Idle;
        Ok(())
    }

    fn push<T: Copy + Into<f64>>(&mut self, chunk: &[T], executed: usize) -> Result<()> {
        let dims = self.config.layout().dims();
        let most = self.config.max_chunk();
        let actions = chunk.len() / dims;
        if !chunk.len().is_multiple_of(dims) || !(1..=most.min(actions)).contains(&executed) {
            let expected = [executed.clamp(1, most), dims];
            return Err(Error::shape("executed actions", expected, [chunk.len()]));
        }
        let mut buffer = [0.0; MAX_ACTION];
        self.planned.clear();
        for (at, action) in chunk.chunks(dims).take(most).enumerate() {
            let action = widen(dims, action, &mut buffer)?;
            if at < executed {
                self.kinematics.push(action)?;
                self.last[..dims].copy_from_slice(action);
                self.has_last = true;
            } else {
                check_finite(action)?;
                self.planned.extend_from_slice(action);
            }
        }
        Ok(())
    }

    /// Starts an episode: clears the history and the fault.
    pub fn reset(&mut self) {
        self.kinematics.clear();
        self.has_last = false;
        self.last_profile = Profile::High;
        self.uncertainty = None;
        self.planned.clear();
        self.run = 0;
        self.phase = Phase::Idle;
        self.fault = false;
    }
}
