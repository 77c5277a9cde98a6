//! `w4ax report fig3`: s_t, M and J over normalized time.

use std::path::PathBuf;

use serde::Serialize;
use w4ax::calibrate::Calibration;
use w4ax::{Error, Result};
use w4ax_robot::embedded;
use w4ax_robot::report::course::{self, Course, CourseData, Picture};
use w4ax_robot::sensitivity::{motion, perturb, response};

use super::Output;
use super::options::{files, refused};

/// The options of the report.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Perturbed steps, CSV [default: tests/data/robot/perturb.csv of the workspace]
    #[arg(long, value_name = "FILE")]
    perturb: Vec<PathBuf>,
    /// The undisturbed actions of each file of `--perturb`, in its order [default:
    /// tests/data/robot/nominal_actions.csv of the workspace]
    #[arg(long, value_name = "FILE")]
    nominal: Vec<PathBuf>,
    /// The windows, mu_max and nu_max, JSON [default: the calibration of the policy in this
    /// program]
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The file of `--json`.
#[derive(Serialize)]
struct CoursesJson<'a> {
    bins: usize,
    courses: &'a [Course],
}

/// Runs the report.
///
/// # Errors
/// As [`perturb::load_nominal`], [`perturb::load`] and [`Calibration::load`]. [`Error::Range`] for
/// another number of files of `--nominal`.
pub fn run(options: &Options) -> Result<()> {
    let (perturb, nominal) = (options.perturb.len(), options.nominal.len());
    if perturb != nominal {
        let value = format!("given {nominal} times, --perturb {perturb} times");
        return Err(refused("--nominal", value, "a file for each of --perturb"));
    }
    let perturb = files("--perturb", &options.perturb, "perturb.csv")?;
    let nominal = files("--nominal", &options.nominal, "nominal_actions.csv")?;
    let (calibration, calibration_file) = match &options.calibration {
        Some(path) => (Calibration::load(path)?, path.display().to_string()),
        None => (embedded::calibration()?, embedded::CALIBRATION_FILE.into()),
    };

    let mut loaded = Vec::new();
    for (perturb, nominal) in perturb.iter().zip(&nominal) {
        let episodes = perturb::load_nominal(nominal)?;
        let steps = perturb::load(perturb, &episodes)?;
        loaded.push((episodes, steps, nominal.display().to_string()));
    }
    let all: Vec<_> = loaded
        .iter()
        .flat_map(|(episodes, ..)| episodes.clone())
        .collect();
    let configs = motion::configs(&calibration, &all, false).map_err(|error| Error::Format {
        file: calibration_file,
        reason: error.to_string(),
    })?;
    let data = loaded.into_iter().map(|(nominal, steps, file)| {
        let responses = response::responses(&nominal, steps, &file, |task| &configs[task])?;
        Ok(CourseData {
            nominal,
            file,
            responses,
        })
    });
    let data = data.collect::<Result<Vec<_>>>()?;
    let courses = course::courses(&data, |task| &configs[task])?;

    println!(
        "DyQ-VLA, Fig. 3: s_t = D_eef / e_t (m per action unit), M and J over normalized time: \
         means of {} parts",
        course::BINS
    );
    println!("{}", course::means(&courses));
    for course in &courses {
        let [m, j] = course
            .correlation
            .map(|r| r.map_or("-".into(), |r| format!("{r:.2}")));
        println!(
            "{}: correlation of the mean s_t of a part with its mean M {m}, with its mean J {j}; \
             the paper has .90 and .87",
            course.mode.name()
        );
    }
    let report = CoursesJson {
        bins: course::BINS,
        courses: &courses,
    };
    (options.output).write("fig3", &report, |path| Picture(&courses).write(path))
}
