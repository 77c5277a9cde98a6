//! How sensitive an episode's end is to the error of one step, against the motion of that step (DyQ-VLA, arXiv 2603.07904,
//! section III); how continuous an expert's actions are in each phase (DySL-VLA, arXiv 2602.22896). On recorded episodes,
//! beside what the paper and the data's READMEs say.
//!
//! `cargo run --release --example sensitivity`

mod options;

use w4ax::calibrate::Calibration;
use w4ax::{Error, Result};

pub use options::Options;
use options::{PICTURE, Scale};
use w4ax_robot::draw;
use w4ax_robot::sensitivity::answer::{self, Answer, Averaged, Correlation, Group};
use w4ax_robot::sensitivity::continuity::{self, Firing, Phase};
use w4ax_robot::sensitivity::json::{self, Report};
use w4ax_robot::sensitivity::motion::{self, Predictor};
use w4ax_robot::sensitivity::perturb::{self, Mode, Terminal};
use w4ax_robot::sensitivity::plot::Picture;
use w4ax_robot::sensitivity::{expected, expert, table};

/// The D_T of the tables that show one: of the robot, as the paper has it.
const SHOWN: Terminal = Terminal::Eef;

/// Runs the command.
///
/// # Errors
/// Bad options and files.
pub fn run(options: &Options) -> Result<()> {
    let answers = answers(options)?;
    let file = options.file(&options.expert, "trajectories_expert.csv");
    let expert = expert::load(&file)?;
    let steps = continuity::steps(&expert, &file.display().to_string())?;
    let correlations = answer::correlations(&answers, options.draws as usize, options.seed);
    let averages = answer::averages(&answers, SHOWN);
    let (phases, firings) = (continuity::phases(&steps), continuity::firings(&steps));

    print_sensitivity(&answers, &correlations, &averages, options);
    print_continuity(&phases, &firings, expert.len());
    let path = draw::place(options.plot.as_deref(), PICTURE)?;
    let picture = Picture {
        answers: &answers,
        correlations: &correlations,
        terminal: SHOWN,
    };
    picture.write(&path)?;
    println!("\npicture: {}", path.display());
    if let Some(path) = &options.json {
        let report = Report {
            rows: answers.iter().map(json::Row::from).collect(),
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

fn answers(options: &Options) -> Result<Vec<Answer>> {
    let calibration_file = options.file(&options.calibration, "calibration.json");
    let calibration = Calibration::load(&calibration_file)?;
    let file = options.file(&options.nominal, "nominal_actions.csv");
    let nominal = perturb::load_nominal(&file)?;
    let perturbed = perturb::load(&options.file(&options.perturb, "perturb.csv"), &nominal)?;
    let own = options.scale == Scale::Nominal;
    let configs = motion::configs(&calibration, &nominal, own).map_err(|error| Error::Format {
        file: calibration_file.display().to_string(),
        reason: error.to_string(),
    })?;
    let file = file.display().to_string();
    answer::answers(&nominal, perturbed, &file, |task| &configs[task])
}

fn print_sensitivity(
    answers: &[Answer],
    correlations: &[Correlation],
    averages: &[Averaged],
    options: &Options,
) {
    println!("DyQ-VLA, section III: s_t = D_T / e_t of one perturbed step");
    println!(
        "bc: the policy goes on; ol: the recorded actions; fb: the expert, by feedback; s in m an action unit, of D_eef"
    );
    println!("{}", table::rows(answers));
    println!(
        "rows with e_t = 0 have no s and are left out; D_T = 0 is s = 0, and left out where log s is asked for"
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
        "\nThe same rows, averaged over equal parts of their episodes' time before they are correlated:"
    );
    println!("{}", table::averages(averages));
    println!("averaging alone makes a correlation large; it says nothing of a single step\n");
    print_finding(correlations);
}

/// The figures beside those of the paper and of the data's README.
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
        "the README's are those of fb; all tasks together, the largest of any mode, D_T, window and measure, of either sign: {most:.2}"
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
        "the README leaves out each episode's second step, where C falls from 0, its value of a single action"
    );
}
