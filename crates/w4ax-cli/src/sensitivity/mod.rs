//! `w4ax sensitivity`: the sensitivity of an episode's end to the error of one step, against the
//! motion of that step (DyQ-VLA, arXiv 2603.07904, section III), and the continuity of an expert's
//! actions in each phase (DySL-VLA, arXiv 2602.22896), with the figures of the paper and of the
//! data's READMEs.

mod options;

use w4ax::calibrate::Calibration;
use w4ax::{Error, Result};

pub use options::Options;
use options::{PICTURE, Scale};
use w4ax_robot::draw;
use w4ax_robot::sensitivity::continuity::{self, Firing, Phase};
use w4ax_robot::sensitivity::json::{self, Report};
use w4ax_robot::sensitivity::motion::{self, Predictor};
use w4ax_robot::sensitivity::perturb::{self, Mode, Terminal};
use w4ax_robot::sensitivity::plot::Picture;
use w4ax_robot::sensitivity::response::{self, Averaged, Correlation, Group, Response};
use w4ax_robot::sensitivity::{expected, expert, table};

/// The D_T of tables that show only one: the end effector's, as in the paper.
const SHOWN: Terminal = Terminal::Eef;

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(options: &Options) -> Result<()> {
    let responses = responses(options)?;
    let file = options.file(&options.expert, "trajectories_expert.csv")?;
    let expert = expert::load(&file)?;
    let steps = continuity::steps(&expert, &file.display().to_string())?;
    let correlations = response::correlations(&responses, options.draws as usize, options.seed);
    let averages = response::averages(&responses, SHOWN);
    let (phases, firings) = (continuity::phases(&steps), continuity::firings(&steps));

    print_sensitivity(&responses, &correlations, &averages, options);
    print_continuity(&phases, &firings, expert.len());
    let path = draw::place(options.plot.as_deref(), PICTURE)?;
    let picture = Picture {
        responses: &responses,
        correlations: &correlations,
        terminal: SHOWN,
    };
    picture.write(&path)?;
    println!("\npicture: {}", path.display());
    if let Some(path) = &options.json {
        let report = Report {
            rows: responses.iter().map(json::Row::from).collect(),
            correlations: &correlations,
            averages: &averages,
            steps: &steps,
            phases: &phases,
            firings: &firings,
        };
        w4ax::file::write_atomically(path, report.to_json().as_bytes())?;
        println!("results: {}", path.display());
    }
    Ok(())
}

fn responses(options: &Options) -> Result<Vec<Response>> {
    let calibration_file = options.file(&options.calibration, "calibration.json")?;
    let calibration = Calibration::load(&calibration_file)?;
    let file = options.file(&options.nominal, "nominal_actions.csv")?;
    let nominal = perturb::load_nominal(&file)?;
    let perturbed = perturb::load(&options.file(&options.perturb, "perturb.csv")?, &nominal)?;
    let own = options.scale == Scale::Nominal;
    let configs = motion::configs(&calibration, &nominal, own).map_err(|error| Error::Format {
        file: calibration_file.display().to_string(),
        reason: error.to_string(),
    })?;
    let file = file.display().to_string();
    response::responses(&nominal, perturbed, &file, |task| &configs[task])
}

fn print_sensitivity(
    responses: &[Response],
    correlations: &[Correlation],
    averages: &[Averaged],
    options: &Options,
) {
    println!("DyQ-VLA, section III: s_t = D_T / e_t of one perturbed step");
    println!(
        "after the step: bc: the policy; ol: the recorded actions; fb: the expert, by feedback; \
         s in m per action unit, of D_eef"
    );
    println!("{}", table::rows(responses));
    println!(
        "rows with e_t = 0 have no s and are left out; D_T = 0 gives s = 0, which log s leaves out"
    );
    println!(
        "\nCorrelations with {}, all tasks together; [95 % over {} draws of whole episodes]:",
        SHOWN.column(),
        options.draws
    );
    println!("{}", table::predictors(correlations, SHOWN));
    println!("\nPearson's correlation with log s, for each terminal deviation:");
    println!("{}", table::terminals(correlations));
    println!(
        "\nPearson's correlation with log s of {}, each task:",
        SHOWN.column()
    );
    println!("{}", table::tasks(correlations, SHOWN));
    println!(
        "\nThe same rows, averaged over equal parts of their episodes' time before the correlation:"
    );
    println!("{}", table::averages(averages));
    println!("averaging alone makes a correlation large; it shows nothing about a single step\n");
    print_finding(correlations);
}

/// Prints the figures with those of the paper and of the data's README.
fn print_finding(correlations: &[Correlation]) {
    let figure = |mode, predictor| {
        let group = Group { mode, task: None };
        let found = table::find(correlations, &group, SHOWN, predictor);
        table::estimate(found.and_then(|c| c.pearson_log))
    };
    for (at, predictor) in [Predictor::MWindow, Predictor::JWindow]
        .into_iter()
        .enumerate()
    {
        let modes =
            Mode::ALL.map(|mode| format!("{} {}", mode.name(), figure(Some(mode), predictor)));
        println!(
            "{}: the paper has {:.2}, the data's README about {:.1}; here {}, all modes {}",
            predictor.name(),
            expected::PAPER[at],
            expected::README[at],
            modes.join(", "),
            figure(None, predictor)
        );
    }
    let motion = correlations
        .iter()
        .filter(|c| c.group.task.is_none() && c.predictor != Predictor::StepsLeft);
    let figures = motion
        .flat_map(|c| [c.pearson, c.pearson_log, c.spearman])
        .flatten();
    let most = figures.map(|r| r.value.abs()).fold(0.0, f64::max);
    println!(
        "the README has fb; the largest of any mode, D_T, window and measure, of either sign, \
         all tasks together: {most:.2}"
    );
}

fn print_continuity(phases: &[Phase], firings: &[Firing], episodes: usize) {
    println!("\nDySL-VLA: mean continuity C_t (k = 5) of {episodes} expert episodes, by phase:");
    println!("{}", table::phases(phases));
    println!(
        "\nSteps at which a rule of verification fires, percent (the data's README in brackets):"
    );
    println!("{}", table::firings(firings));
    println!(
        "the README leaves out each episode's second step, where C falls from 0, \
         its value after one action"
    );
}
