//! The continuity of actions of any length.

use proptest::prelude::*;
use w4ax::Error;
use w4ax::dispatch::ActionLayout;
use w4ax::skip::{Continuity, Guide, LayerStack, Layers, SkipConfig, Skipper, Weights};

proptest! {
    /// C and delta have the bits of the formula for 7 and for 14 numbers.
    #[test]
    fn continuity_has_the_bits_of_the_formula(
        numbers in prop::collection::vec(-1.0..=1.0_f64, 14 * 12),
        weights in prop::collection::vec(0.1..2.0_f64, 14),
        (dims, window) in (prop_oneof![Just(7_usize), Just(14)], 1..6_usize),
    ) {
        let weights = Weights::try_from(&weights[..dims]).unwrap();
        let config = SkipConfig::default().with_window(window).with_weights(weights);
        let mut continuity = Continuity::new(&config).unwrap();
        let (mut changes, mut before) = (vec![], 0.0);
        let actions: Vec<&[f64]> = numbers.chunks(dims).collect();
        for (t, action) in actions.iter().enumerate() {
            continuity.push(action).unwrap();
            if t > 0 {
                let weighted = (0..dims).map(|i| weights[i] * (action[i] - actions[t - 1][i]));
                changes.push(weighted.map(|x| x * x).sum::<f64>().sqrt());
            }
            let last = &changes[changes.len().saturating_sub(window)..];
            let c = match last.len() {
                0 => 0.0,
                len => 0.0 - last.iter().sum::<f64>() / len as f64,
            };
            prop_assert_eq!(continuity.value().to_bits(), c.to_bits());
            prop_assert_eq!(continuity.delta().to_bits(), (c - before).to_bits());
            before = c;
        }
    }
}

#[test]
fn rejects_weights_and_actions_of_another_length() {
    let too_many = vec![1.0; 65];
    for bad in [&[][..], &too_many] {
        let error = Weights::try_from(bad).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Config {
                    field: "weights",
                    ..
                }
            ),
            "{error}"
        );
    }
    let config = SkipConfig::default().with_weights(ActionLayout::aloha());
    assert_eq!(
        (config.dims(), config.weights()),
        (14, Weights::from([1.0; 14]))
    );
    assert_ne!(config, SkipConfig::default());
    let mut guide = Guide::new(&config, &Layers::new(8, &[0]).unwrap()).unwrap();
    assert!(guide.observe(&[0.0; 28]).is_ok());
    let error = guide.observe(&[0.0; 21]).unwrap_err().to_string();
    assert_eq!(error, "actions has shape [21]: expected [2, 14]");
    assert!(guide.in_fault());
    let mut chunk = [0.0; 28];
    chunk[20] = f64::INFINITY;
    match guide.judge(&chunk).unwrap_err() {
        Error::NotFinite { index, .. } => assert_eq!(index, 20),
        other => panic!("{other}"),
    }
    let mut continuity = Continuity::new(&config).unwrap();
    assert!(matches!(
        continuity.push(&[0.0; 7]),
        Err(Error::Shape { .. })
    ));
}

/// Layers without work, whose actions are a step of one joint.
struct Joint(f64);

impl LayerStack for Joint {
    type Error = Error;

    fn layers(&self) -> usize {
        4
    }

    fn embed(&mut self) -> w4ax::Result<()> {
        Ok(())
    }

    fn run(&mut self, _layer: usize) -> w4ax::Result<()> {
        Ok(())
    }

    fn skip_probability(&mut self, _layer: usize) -> w4ax::Result<f32> {
        Ok(1.0)
    }

    fn adapt(&mut self, _from: usize, _to: usize) -> w4ax::Result<()> {
        Ok(())
    }

    fn actions(&mut self, actions: &mut [f64]) -> w4ax::Result<()> {
        assert_eq!(actions.len(), 2 * 14);
        actions.fill(0.0);
        actions[14 + 13] = self.0;
        Ok(())
    }
}

#[test]
fn skipper_steps_with_chunks_of_any_layout() {
    let config = SkipConfig::default()
        .with_window(1)
        .with_weights(ActionLayout::aloha());
    let mut skipper = Skipper::new(&config, Layers::new(4, &[0]).unwrap()).unwrap();
    let mut chunk = [9.0; 28];
    let report = skipper.step(&mut Joint(0.5), &mut chunk).unwrap();
    assert_eq!(report.judgment.continuity, -0.5);
    assert_eq!(chunk[27], 0.5);
    assert!(skipper.step(&mut Joint(0.5), &mut [0.0; 7]).is_err());
}
