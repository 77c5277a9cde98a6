//! From the hidden states of a prefill to actions.

use super::probe::Probe;
use super::skipping;
use super::vla::{Chunk, Decoded, Output, Prefilled, Vla};
use crate::Result;
use crate::action::Unnormalize;
use candle_core::{DType, Device, Tensor};
use w4ax::Width;

impl Vla {
    /// Computes the actions: decodes the remaining tokens, or runs the action head.
    ///
    /// # Errors
    /// If logits or actions are not finite.
    pub fn decode(
        &mut self,
        prefilled: &Prefilled,
        width: Width,
        probe: &mut Probe<'_>,
    ) -> Result<Decoded> {
        match &self.output {
            Output::Tokens => self.decode_tokens(prefilled, width, probe),
            Output::Chunk(chunk) => self.decode_chunk(chunk, prefilled, probe),
        }
    }

    /// Runs the action head, or the head of the language model without one.
    fn decode_chunk(
        &self,
        chunk: &Chunk,
        prefilled: &Prefilled,
        probe: &mut Probe<'_>,
    ) -> Result<Decoded> {
        probe.stage("action_hidden_states", &prefilled.hidden);
        match &chunk.head {
            Some(head) => {
                let hidden = prefilled.hidden.to_dtype(self.plain_type)?;
                let trace = &mut |name: &str, value: &Tensor| probe.stage(name, value);
                let actions = head.forward(&hidden, trace)?; // [n, dims]
                let values = actions
                    .to_dtype(DType::F32)?
                    .flatten_all()?
                    .to_vec1::<f32>()?;
                let normalized: Vec<f64> = values.into_iter().map(f64::from).collect();
                check_finite("actions", &normalized)?;
                Ok(Decoded {
                    normalized,
                    tokens: Vec::new(),
                    token_std: None,
                })
            }
            None => {
                let (first, logits) = self.llama.logits(&prefilled.hidden)?;
                let tokens = (logits.iter())
                    .map(|logits| Ok(first + argmax(logits)?))
                    .collect::<Result<Vec<_>>>()?;
                let variances = logits
                    .iter()
                    .map(|logits| self.bins.variance(first, logits));
                Ok(self.decoded(tokens, variances.sum()))
            }
        }
    }

    /// Decodes one token per number of the action, greedily.
    fn decode_tokens(
        &mut self,
        prefilled: &Prefilled,
        width: Width,
        probe: &mut Probe<'_>,
    ) -> Result<Decoded> {
        let mut hidden = prefilled.hidden.clone(); // [1, hidden]
        let mut tokens = Vec::with_capacity(prefilled.dims);
        let mut variance = 0.0;
        loop {
            let (first, logits) = self.llama.logits(&hidden)?;
            if probe.has_stage() {
                let logits = Tensor::new(logits[0].as_slice(), &Device::Cpu)?;
                probe.stage(&format!("logits_step{}", tokens.len()), &logits);
            }
            let token = first + argmax(&logits[0])?;
            tokens.push(token);
            variance += self.bins.variance(first, &logits[0]);
            if tokens.len() == prefilled.dims {
                return Ok(self.decoded(tokens, variance));
            }
            let x = self.llama.embed(&[token])?;
            let networks = self.skip.as_ref();
            let x =
                skipping::repeat_layers(&self.llama, &x, width, &prefilled.runs, networks, probe)?;
            self.llama.advance(1);
            hidden = self.llama.final_norm(&x, probe)?;
        }
    }

    fn decoded(&self, tokens: Vec<u32>, variance: f64) -> Decoded {
        Decoded {
            normalized: tokens
                .iter()
                .map(|token| self.bins.decode(*token))
                .collect(),
            tokens,
            token_std: Some(variance.sqrt()),
        }
    }

    /// Scales normalized actions `[n, dims]` to the units of a data set.
    ///
    /// # Errors
    /// [`NormStats`](crate::VlaError::NormStats) for an unknown key;
    /// [`Input`](crate::VlaError::Input) for another number of values.
    pub fn unnormalize(&self, normalized: &[f64], key: Option<&str>) -> Result<Vec<f64>> {
        let (_, dataset) = self.stats.get(key)?;
        let chunk = match &self.output {
            Output::Tokens => return Unnormalize::openvla(&dataset.action).apply(normalized),
            Output::Chunk(chunk) => chunk,
        };
        let rule = Unnormalize::oft(&dataset.action, chunk.platform.bounds())?;
        if chunk.head.is_none() {
            return rule.apply(normalized);
        }
        // The head's values are F32.
        let normalized: Vec<f32> = normalized.iter().map(|value| *value as f32).collect();
        rule.apply_f32(&normalized)
    }
}

fn check_finite(what: &'static str, values: &[f64]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(w4ax::Error::NotFinite {
            what,
            index,
            value: values[index],
        }
        .into()),
        None => Ok(()),
    }
}

/// Returns the index of the largest logit, the lowest of equal ones.
fn argmax(logits: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        if !value.is_finite() {
            return Err(w4ax::Error::NotFinite {
                what: "logits",
                index,
                value: f64::from(*value),
            }
            .into());
        }
        if *value > logits[best] {
            best = index;
        }
    }
    Ok(best as u32)
}
