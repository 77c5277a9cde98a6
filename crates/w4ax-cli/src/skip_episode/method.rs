//! The methods of `w4ax skip-episode`: DySL-VLA, its ablations, and baselines.

use std::cell::OnceCell;
use std::path::Path;

use w4ax::Result;
use w4ax::skip::{SkipConfig, SkipFile};

use super::options::Options;
use w4ax_robot::networks::{AdapterWeights, Networks};
use w4ax_robot::policy::Policy;
use w4ax_robot::setting::Verification;
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::skip_episode::blind::Pattern;
use w4ax_robot::skipping::Substitute;

/// The files of networks.
pub struct Files {
    /// With 20 % of the layers static.
    pub main: Networked,
    /// With 10 % of the layers static.
    pub ratio_10: Networked,
    /// With 30 % of the layers static.
    pub ratio_30: Networked,
    /// With no static layers.
    pub no_static: Networked,
    /// Trained in one stage.
    pub joint: Networked,
    /// With an early exit.
    pub exit: Networked,
}

/// A file with its name.
pub struct Networked {
    /// The path on the command line, for errors.
    pub name: String,
    /// The content of the file.
    pub file: SkipFile,
    /// By the type of the weights, made at the first use.
    networks: [OnceCell<Networks>; 2],
}

impl Networked {
    fn load(path: &Path) -> Result<Self> {
        Ok(Self {
            name: path.display().to_string(),
            file: SkipFile::load(path)?,
            networks: Default::default(),
        })
    }

    /// Returns the networks for a policy, with weights of that type. Weights are shared between
    /// calls.
    ///
    /// # Errors
    /// As [`Networks::new`].
    pub fn networks(&self, policy: &Policy, weights: AdapterWeights) -> Result<Networks> {
        let made = &self.networks[weights as usize];
        if let Some(networks) = made.get() {
            return Ok(networks.clone());
        }
        let (shape, compute) = ((policy.blocks(), policy.width()), policy.compute());
        let networks = Networks::new(&self.file, &self.name, shape, weights, QUANTIZE, &compute)?;
        Ok(made.get_or_init(|| networks).clone())
    }
}

impl Files {
    /// Loads all files.
    ///
    /// # Errors
    /// As [`SkipFile::load`].
    pub fn load(options: &Options) -> Result<Self> {
        Ok(Self {
            main: Networked::load(&options.skip)?,
            ratio_10: Networked::load(&options.skip_10)?,
            ratio_30: Networked::load(&options.skip_30)?,
            no_static: Networked::load(&options.skip_no_static)?,
            joint: Networked::load(&options.skip_joint)?,
            exit: Networked::load(&options.skip_exit)?,
        })
    }
}

/// The rule that selects the layers of a step.
#[derive(Clone, Debug)]
pub enum Rule {
    /// All layers run.
    Full,
    /// By static layers, allow-points, controllers and verification.
    Guided(Box<SkipConfig>, Substitute),
    /// Runs another method's share of the layers without looking at the state. Skipped layers are
    /// left out.
    Blind(Pattern),
    /// Layers before the exit run.
    Exit,
}

/// A method of the table.
pub struct Method<'a> {
    /// The name of the row.
    pub name: &'static str,
    /// The networks. A blind rule takes their static layers and the share of their method.
    pub networks: &'a Networked,
    /// The rule.
    pub rule: Rule,
    /// Whether the threshold is set so that the method runs DySL's share of the layers.
    pub same_share: bool,
}

/// Returns all methods. The first is [`Rule::Full`], the second DySL-VLA.
pub fn methods<'a>(files: &'a Files, options: &Options) -> Vec<Method<'a>> {
    let dysl = options.half.config(options.verify);
    let fewer = options.few.config(options.verify);
    let paper = options.half.config(Verification::Paper);
    let unverified = options.half.config(Verification::Off);
    let defaults = SkipConfig::default().with_verify(dysl.verify());
    let unguided = unverified.with_pre_skip(false);
    let guided = |config| Rule::Guided(Box::new(config), Substitute::Adapter);
    let method = |name, networks, rule| Method {
        name,
        networks,
        rule,
        same_share: false,
    };
    let no_pre_skip = dysl.with_pre_skip(false);
    let main = &files.main;
    let at_its_share = |name, networks, rule| Method {
        same_share: true,
        ..method(name, networks, rule)
    };
    let identity = Rule::Guided(Box::new(dysl), Substitute::Identity);
    let blind = |name, pattern| method(name, main, Rule::Blind(pattern));
    let above = |threshold| guided(dysl.with_threshold(threshold));
    vec![
        method("full", main, Rule::Full),
        method("DySL", main, guided(dysl)),
        method("DySL, fewer layers", main, guided(fewer)),
        method("DySL, p > .3", main, above(0.3)),
        method("DySL, p > .4", main, above(0.4)),
        method("DySL, p > .5", main, above(0.5)),
        method("DySL, p > .6", main, above(0.6)),
        method("DySL, p > .7", main, above(0.7)),
        method("DySL, p > .8", main, above(0.8)),
        method("DySL, all etas .05", main, guided(defaults)),
        method("DySL, the paper's verification", main, guided(paper)),
        method("without verification", main, guided(unverified)),
        method("without pre-skip", main, guided(no_pre_skip)),
        at_its_share("without two stages", &files.joint, guided(dysl)),
        at_its_share("without static layers", &files.no_static, guided(dysl)),
        at_its_share("static ratio 10 %", &files.ratio_10, guided(dysl)),
        at_its_share("static ratio 30 %", &files.ratio_30, guided(dysl)),
        at_its_share("identity for adapters", main, identity),
        blind("random skip", Pattern::Random),
        blind("random skip of dynamic layers", Pattern::RandomDynamic),
        blind("uniform skip", Pattern::Uniform),
        at_its_share(
            "DySL's networks without guidance",
            &files.no_static,
            guided(unguided),
        ),
        method("fixed exit, DySL's adapter", &files.exit, Rule::Exit),
    ]
}
