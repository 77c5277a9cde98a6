//! Trained networks in evaluation and in inference: in f32 on candle, and on the crate's GEMMs with
//! BF16 activations.

use candle_core::{DType, Device, Tensor};
use half::bf16;
use w4ax::Width;
use w4ax::calibrate::distance;
use w4ax::cpu::Cpu;
use w4ax::skip::{Adapter, SkipConfig, SkipFile, Verify};
use w4ax::step::StepPipeline;

use crate::runs::{alone, tokens};
use crate::{POLICY, ROWS};
use w4ax_robot::networks::{AdapterWeights, Networks as Running};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::action;
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::skipping::{Skipping, Substitute};
use w4ax_robot::steps::PolicyEngine;
use w4ax_robot::training::batches;
use w4ax_robot::training::evaluate::Judge;
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::networks::{Networks, Parameters};

/// Converts the networks of a file to candle.
fn on_candle(file: &SkipFile) -> Networks {
    let (d, ha, hc) = (
        file.config.width,
        file.config.adapter_hidden,
        file.config.controller_hidden,
    );
    let mut all = Parameters::new();
    let mut add = |name: String, values: Vec<f32>, shape: &[usize]| {
        let value = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        all.insert(name, value);
    };
    let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let mut adapter = |name: String, adapter: &Adapter| {
        add(format!("{name}.norm"), adapter.norm.clone(), &[d]);
        add(format!("{name}.up.weight"), wide(&adapter.up), &[ha, d]);
        add(format!("{name}.down.weight"), wide(&adapter.down), &[d, ha]);
    };
    for (layer, of) in &file.adapters {
        adapter(format!("adapters.{layer}"), of);
    }
    if let Some(exit) = &file.exit {
        adapter("exit".into(), exit);
    }
    for (layer, of) in &file.controllers {
        let name = format!("controllers.{layer}");
        add(format!("{name}.norm"), of.norm.clone(), &[d]);
        add(format!("{name}.hidden.weight"), wide(&of.hidden), &[hc, d]);
        add(format!("{name}.out.weight"), of.out.clone(), &[hc]);
        add(format!("{name}.bias"), vec![of.bias], &[1]);
    }
    Networks(all)
}

/// Rounding to BF16 may move a probability across the threshold, or a token to its neighbor.
#[test]
fn evaluation_matches_inference() {
    let file = SkipFile::load(w4ax_robot::paths::SKIP).unwrap();
    let networks = on_candle(&file);
    let frozen = Frozen::new(&POLICY, DType::F32).unwrap();
    let layers = file.config.skip_layers().unwrap();
    let mut policy = Policy::unquantized(&POLICY, Cpu::new().unwrap(), 1).unwrap();
    let rows: Vec<usize> = ROWS.rows(true).into_iter().step_by(20).collect();
    let inputs = batches::inputs(&POLICY, &ROWS, &rows);
    let judged = batches::tensor(&inputs, DType::F32).unwrap();
    let judge = Judge::new(&frozen, &judged).unwrap();
    for threshold in [0.3f32, 0.5, 0.7] {
        let config = SkipConfig::default()
            .with_pre_skip(false)
            .with_verify(Verify::Off)
            .with_threshold(threshold);
        let shape = (policy.blocks(), policy.width());
        let (weights, compute) = (AdapterWeights::Bf16, policy.compute());
        let running = Running::new(&file, "skip", shape, weights, QUANTIZE, &compute).unwrap();
        let mut skipping = Skipping::new(&config, running, Substitute::Adapter).unwrap();
        let (mut same, mut off, mut ran, mut error) = (0, 0.0, 0, 0.0);
        for (row, input) in inputs.iter().enumerate() {
            let one = judged.narrow(0, row, 1).unwrap();
            let (wanted, by) = alone(&frozen, &networks, &layers, &one, threshold.into());
            let engine = PolicyEngine::new(&mut policy, &mut skipping);
            let mut pipeline = StepPipeline::new(engine, None);
            pipeline.request(Width::Bf16).unwrap();
            pipeline.run(input).unwrap();
            let got = pipeline.engine().tokens();
            let fates: Vec<bool> = (skipping.skipper.report().fates.iter())
                .map(|fate| fate.ran())
                .collect();
            ran += fates.iter().filter(|&&ran| ran).count();
            let full = tokens(&frozen, &frozen.states(&one).unwrap()[16]);
            error += distance(&action(&got), &action(&full));
            if fates == wanted {
                same += 1;
                off += distance(&action(&got), &action(&by));
            }
        }
        let rows = rows.len();
        assert!(same * 20 >= rows * 19, "{same} of {rows} at {threshold}");
        let off = off / same as f64;
        assert!(off < 0.015, "{off} at {threshold}: two bins of one token");
        let point = judge.skipping(&frozen, &networks, &layers, threshold.into());
        let point = point.unwrap();
        let (share, error) = (ran as f64 / (16 * rows) as f64, error / rows as f64);
        assert!(
            (point.share - share).abs() < 0.02 && (point.error - error).abs() < 0.01,
            "{point:?}, but {share} and {error} where it runs"
        );
    }
}
