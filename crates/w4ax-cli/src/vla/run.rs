//! `w4ax vla run`: control steps of a model on the same images.

use std::error::Error;

use w4ax::skip::SkipFile;
use w4ax::step::Decide;
use w4ax_vla::config::NormStats;
use w4ax_vla::step::{VlaRunner, VlaStep};

use super::model::load;
use super::options::Options;
use super::report;
use super::width::WidthChoice;

/// Runs the command.
///
/// # Errors
/// Invalid options, files and inputs.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // Wrong inputs are found before the model is loaded, which takes longer.
    let load_options = options.load_options()?;
    NormStats::load(&options.model)?.get(options.input.unnorm_key.as_deref())?;
    let input = options.read_input()?;
    let (dispatcher, fixed) = match options.width.choose()? {
        WidthChoice::Dynamic(dispatcher) => (Some(*dispatcher), None),
        WidthChoice::Fixed(width) => (None, Some(width)),
    };
    let step_options = options.decide.step_options()?;
    let during = step_options.decide() != Decide::BeforeStep;
    let skip = match &options.skip.skip {
        Some(path) => Some((SkipFile::load(path)?, path.display().to_string())),
        None => None,
    };
    // The steps run on a thread of their own, which uses the global pool.
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.into())
        .build_global()?;

    let mut model = load(&options.model, &load_options)?;
    let memory = report::memory(&model);
    let observation = options.input.observation(&model, &input);
    let mut runner = match skip {
        Some((file, name)) => {
            model = model.with_skip_networks(&file, &name)?;
            let config = options.skip.config();
            VlaRunner::skipping(model, &config, dispatcher, step_options)?
        }
        None => VlaRunner::new(model, dispatcher, step_options)?,
    };
    let mut json = String::new();
    let mut last: Option<VlaStep> = None;
    for at in 0..options.steps {
        if during {
            runner.begin(&observation)?;
        }
        match (fixed, &last) {
            (Some(width), _) => runner.request(width)?,
            (None, Some(last)) => drop(runner.decide(&last.normalized, last.dims)?),
            (None, None) => drop(runner.decide(&[], 1)?),
        }
        let step = match during {
            true => runner.finish()?,
            false => runner.step(&observation)?,
        };
        if options.steps > 1 {
            println!("step {at}");
        }
        report::print(&step, options.is_unquantized());
        json += &report::to_json(&step, &memory);
        last = Some(step);
    }
    println!("{}", report::memory_table(&memory));
    if let Some(path) = &options.json {
        w4ax::file::write_atomically(path, json.as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}
