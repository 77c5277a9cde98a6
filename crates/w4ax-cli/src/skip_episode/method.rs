//! What is run: skipping by the trajectory, its ablations, and what it is compared with.

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

/// The files of networks, each with what errors call it.
pub struct Files {
    /// 20 % static.
    pub main: Networked,
    /// 10 % static.
    pub ratio_10: Networked,
    /// 30 % static.
    pub ratio_30: Networked,
    /// No static layers.
    pub no_static: Networked,
    /// Trained in one stage.
    pub joint: Networked,
    /// With an early exit.
    pub exit: Networked,
}

/// A file and its name.
pub struct Networked {
    /// As it was given.
    pub name: String,
    /// What is in it.
    pub file: SkipFile,
    /// By what the weights are: made when they are first asked for.
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

    /// Networks beside that policy, with such weights, which all that are asked for have in common.
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
    /// Reads all.
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

/// How a step decides which layers run.
#[derive(Clone, Debug)]
pub enum Rule {
    /// All do.
    Full,
    /// By static layers, allow-points, controllers and verification.
    Guided(SkipConfig, Substitute),
    /// At another method's share of layers, without looking: skipped layers are left out.
    Blind(Pattern),
    /// Those before the exit.
    Exit,
}

/// A row of the table, but for its width.
pub struct Method<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its networks; for a blind one, those whose static layers and whose share it takes.
    pub networks: &'a Networked,
    /// What it does.
    pub rule: Rule,
    /// Whether its threshold is set such that it runs the share of layers that the first guided method does.
    pub same_share: bool,
}

/// All of them. The first is [`Rule::Full`], the second DySL-VLA as it is.
pub fn methods<'a>(files: &'a Files, options: &Options) -> Vec<Method<'a>> {
    let dysl = options.half.config(options.verify);
    let fewer = options.few.config(options.verify);
    let paper = options.half.config(Verification::Paper);
    let unverified = options.half.config(Verification::Off);
    let defaults = SkipConfig::default().with_verify(dysl.verify());
    let unguided = unverified.with_pre_skip(false);
    let guided = |config| Rule::Guided(config, Substitute::Adapter);
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
    let identity = Rule::Guided(dysl, Substitute::Identity);
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
