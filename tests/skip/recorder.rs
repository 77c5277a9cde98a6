//! A stack that records its calls and fails on request.

use w4ax::Error;
use w4ax::skip::{LayerStack, Layers, SkipConfig, Skipper};

/// A call of the stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    Embed,
    Run(usize),
    Probability(usize),
    Adapt(usize, usize),
    Actions,
}

/// A stack whose layers mix its state, and which records its calls.
pub struct Recorder {
    n: usize,
    pub input: f64,
    state: f64,
    /// `[layers]`: the probabilities of the controllers.
    pub p: Vec<f32>,
    pub calls: Vec<Call>,
    /// The output in place of the state.
    pub output: Option<f64>,
    /// The call that fails, and how many recorded calls of this kind succeed before it.
    pub fail: Option<(Call, usize)>,
}

impl Recorder {
    pub fn new(n: usize) -> Self {
        Self {
            n,
            input: 0.3,
            state: f64::NAN,
            p: vec![0.0; n],
            calls: Vec::new(),
            output: None,
            fail: None,
        }
    }

    fn called(&mut self, call: Call) -> Result<(), Broken> {
        let earlier = self.calls.iter().filter(|&&made| made == call).count();
        self.calls.push(call);
        if self.fail == Some((call, earlier)) {
            return Err(Broken::Stack);
        }
        Ok(())
    }

    pub fn ran(&self) -> Vec<usize> {
        let ran = self.calls.iter().filter_map(|call| match call {
            Call::Run(layer) => Some(*layer),
            _ => None,
        });
        ran.collect()
    }
}

#[derive(Debug)]
pub enum Broken {
    Stack,
    Crate(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Crate(error)
    }
}

pub fn layer(state: f64, layer: usize) -> f64 {
    (state * 1.7 + layer as f64 * 0.31).sin()
}

impl LayerStack for Recorder {
    type Error = Broken;

    fn layers(&self) -> usize {
        self.n
    }

    fn embed(&mut self) -> Result<(), Broken> {
        self.state = self.input;
        self.called(Call::Embed)
    }

    fn run(&mut self, at: usize) -> Result<(), Broken> {
        self.state = layer(self.state, at);
        self.called(Call::Run(at))
    }

    fn skip_probability(&mut self, layer: usize) -> Result<f32, Broken> {
        self.called(Call::Probability(layer))?;
        Ok(self.p[layer])
    }

    fn adapt(&mut self, from: usize, to: usize) -> Result<(), Broken> {
        self.state *= 0.5;
        self.called(Call::Adapt(from, to))
    }

    fn actions(&mut self, actions: &mut [f64]) -> Result<(), Broken> {
        actions.fill(self.output.unwrap_or(self.state));
        self.called(Call::Actions)
    }
}

pub fn skipper(n: usize, statics: &[usize], config: SkipConfig) -> Skipper {
    Skipper::new(&config, Layers::new(n, statics).unwrap()).unwrap()
}
