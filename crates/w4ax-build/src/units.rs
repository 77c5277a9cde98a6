//! Translation units: the sources that one run of nvcc compiles.
//!
//! Every unit that includes CuTe parses its headers once for the host and once for each
//! architecture. On two architectures this takes 20 s of CPU time (AMD EPYC, Zen 3), as much as
//! compiling the kernels of one file. On a machine with few cores, the files of one family of
//! kernels are therefore one unit. With many cores, units of one file are done sooner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// With more cores than this, every file is a unit of its own.
const FEW_CORES: usize = 4;

/// The folder of files that may share a unit. They contain only instances of kernels.
const INSTANCES: &str = "instances";

/// How a file begins whose machine code some drivers cannot load. It never shares a unit.
const ALONE: &str = "// A file of its own";

/// A unit: a source, or a list of sources to be included by one.
#[derive(Debug, PartialEq)]
pub enum Unit {
    /// A source that is compiled alone.
    File(PathBuf),
    /// The name of a family of kernels, and its sources in ascending order.
    Family(String, Vec<PathBuf>),
}

/// Groups `sources` for a machine with this many cores. The units that take the longest are first.
/// `starts_with` returns whether the text of a source starts with the given one.
pub fn group(
    sources: &[PathBuf],
    cores: usize,
    starts_with: impl Fn(&Path, &str) -> bool,
) -> Vec<Unit> {
    let is_instance = |file: &Path| {
        file.parent()
            .is_some_and(|folder| folder.ends_with(INSTANCES))
    };
    // Instances take longer than host code.
    let (instances, others): (Vec<_>, Vec<_>) =
        sources.iter().cloned().partition(|file| is_instance(file));
    let mut units: Vec<Unit> = Vec::new();
    let mut families: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in instances {
        if cores > FEW_CORES || starts_with(&file, ALONE) {
            units.push(Unit::File(file));
        } else {
            families.entry(family(&file)).or_default().push(file);
        }
    }
    // Families of one small file each are one unit as well.
    let (many, single): (Vec<_>, Vec<_>) =
        (families.into_iter()).partition(|(_, files)| files.len() > 1);
    let mut families = many;
    let single: Vec<PathBuf> = single.into_iter().flat_map(|(_, files)| files).collect();
    if !single.is_empty() {
        families.push(("single".into(), single));
    }
    families.sort_by_key(|(_, files)| std::cmp::Reverse(files.len()));
    families
        .into_iter()
        .map(|(name, files)| Unit::Family(name, files))
        .chain(units)
        .chain(others.into_iter().map(Unit::File))
        .collect()
}

/// Returns the first word of a file's name: `decode` of `decode_a4_fused.cu`.
fn family(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.split('_').next().unwrap_or_default().to_owned()
}

impl Unit {
    /// Returns the file to be compiled. That of a family is written to the folder `units`, unless
    /// it is there with the same text: nvcc and cargo then see an unchanged file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn source(&self, units: &Path) -> std::io::Result<PathBuf> {
        let (name, files) = match self {
            Self::File(file) => return Ok(file.clone()),
            Self::Family(name, files) => (name, files),
        };
        let text: String = files
            .iter()
            .map(|file| format!("#include \"{}\"\n", file.display()))
            .collect();
        let source = units.join(format!("{name}.cu"));
        if std::fs::read_to_string(&source).is_ok_and(|present| present == text) {
            return Ok(source);
        }
        std::fs::create_dir_all(units)?;
        let scratch = units.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&scratch, text)?;
        std::fs::rename(scratch, &source)?;
        Ok(source)
    }
}
