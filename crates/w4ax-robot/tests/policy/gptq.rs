//! GPTQ on the policy's weights.

use half::bf16;
use w4ax::cpu::Cpu;
use w4ax::weights::{Gptq, Hessian};
use w4ax::{MatRef, Width};
use w4ax_robot::checkpoint::{Checkpoint, Matrix, TRAINED};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{RECORDED, Rollouts, action};
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::shapes::{INPUT, Tokens};

use crate::plain_policy::PlainPolicy;

/// The policy at W4A16. The weights that run on an episode were calibrated on the other episode of
/// its task.
#[test]
fn gptq_lowers_the_action_error() {
    let checkpoint = Checkpoint::load(TRAINED).unwrap();
    let rollouts = Rollouts::load(RECORDED).unwrap();
    let plain = PlainPolicy::new(&checkpoint);
    let inputs_of = |half: usize| -> Vec<usize> {
        let episodes = rollouts.episodes().iter().enumerate();
        let chosen = episodes.filter(|(i, _)| i % 2 == half);
        chosen.flat_map(|(_, steps)| steps.clone()).collect()
    };
    let tasks: Vec<usize> = rollouts
        .episodes()
        .iter()
        .map(|e| rollouts.task[e.start])
        .collect();
    assert!(
        tasks.chunks(2).all(|pair| pair[0] == pair[1]),
        "two episodes of each task"
    );
    let (mut errors, mut nearest_errors) = (Vec::new(), Vec::new());
    for half in [0, 1] {
        let (calibration, judged) = (inputs_of(half), inputs_of(1 - half));
        let blocks = checkpoint.blocks.len();
        let mut seen = vec![Vec::new(); 2 * blocks + 1];
        for &step in &calibration {
            plain.observed(&rollouts.input[step], |layer, x| {
                seen[layer].extend(x.iter().map(|&x| bf16::from_f32(x)));
            });
        }
        let hessians: Vec<Hessian> = seen
            .iter()
            .map(|x| {
                let k = x.len() / calibration.len();
                let mut hessian = Hessian::new(k);
                hessian
                    .add(MatRef::new(x, calibration.len(), k).unwrap())
                    .unwrap();
                hessian
            })
            .collect();
        let gptq = Gptq::new(QUANTIZE);
        let cpu = Cpu::new().unwrap();
        let pack = |matrix: &Matrix, input: usize| gptq.pack(matrix.view(), &hessians[input]);
        let calibrated =
            Policy::with_weights(&checkpoint, cpu.clone(), judged.len(), pack).unwrap();
        let nearest = Policy::new(&checkpoint, QUANTIZE, cpu, judged.len()).unwrap();
        assert_eq!(calibrated.packed_bytes(), nearest.packed_bytes());
        let inputs: Vec<[f32; INPUT]> = judged.iter().map(|&i| rollouts.input[i]).collect();
        for (mut policy, errors) in [(calibrated, &mut errors), (nearest, &mut nearest_errors)] {
            let mut tokens = vec![Tokens::default(); judged.len()];
            policy
                .forward_rows(&inputs, Width::Bf16, &mut tokens)
                .unwrap();
            for (tokens, &step) in tokens.iter().zip(&judged) {
                let pairs = action(tokens).into_iter().zip(action(&rollouts.bf16[step]));
                errors.push(pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt());
            }
        }
    }
    let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
    let (error, nearest) = (mean(&errors), mean(&nearest_errors));
    println!(
        "mean action error over {} steps: GPTQ {error:.4}, round to nearest {nearest:.4}",
        errors.len()
    );
    assert_eq!(errors.len(), rollouts.len());
    assert!(
        error < 0.0380 && error < 0.75 * nearest,
        "{error} {nearest}"
    );
}
