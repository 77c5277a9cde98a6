//! Named weights, as one packed safetensors file holds them.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, MutexGuard};

use w4ax::weights::PackedWriter;
use w4ax::{PackedFile, PackedWeight};

use super::raw;
use super::status::{Failure, Status, entry_points, free_functions};
use super::threads::with_threads;
use super::weight::Weight;

/// `w4ax_file`.
#[derive(Default)]
pub struct File(Mutex<BTreeMap<CString, Arc<PackedWeight>>>);

impl File {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CString, Arc<PackedWeight>>> {
        // A panic cannot leave the map inconsistent.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn not_found(text: String) -> Failure {
    Failure::new(Status::NotFound, text)
}

entry_points! {
    fn w4ax_file_create(file: *mut *mut File) {
        raw::create("file", file, || Ok(File::default()))
    }

    fn w4ax_file_load(path: *const c_char, threads: u32, file: *mut *mut File) {
        raw::create("file", file, || {
            let path = raw::text("path", path)?;
            let loaded = with_threads(threads, || PackedFile::load(path))??;
            let mut weights = BTreeMap::new();
            for (name, weight) in loaded.weights {
                let name = CString::new(name).map_err(|e| {
                    let text = format!("{path}: name of a weight contains a NUL: {e}");
                    Failure::new(Status::BadFormat, text)
                })?;
                weights.insert(name, Arc::new(weight));
            }
            Ok(File(Mutex::new(weights)))
        })
    }

    fn w4ax_file_save(file: *const File, path: *const c_char) {
        let (file, path) = (raw::handle("file", file)?, raw::text("path", path)?);
        // A copy of the map, whose lock is not held while the file is written.
        let weights = file.lock().clone();
        let name_bytes = weights.keys().map(|name| name.count_bytes()).sum();
        let mut writer = PackedWriter::create(path.as_ref(), weights.len(), 0, name_bytes)?;
        for (name, weight) in &weights {
            // `w4ax_file_insert` accepts UTF-8 only.
            writer.weight(&name.to_string_lossy(), weight)?;
        }
        Ok(writer.finish()?)
    }

    fn w4ax_file_insert(file: *mut File, name: *const c_char, weight: *const Weight) {
        let (file, weight) = (raw::handle("file", file)?, raw::handle("weight", weight)?);
        let name = CString::new(raw::text("name", name)?)
            .map_err(|e| Failure::new(Status::BadText, e.to_string()))?;
        let replaced = file.lock().insert(name, Arc::clone(&weight.0));
        // Freed after the lock is released.
        drop(replaced);
        Ok(())
    }

    fn w4ax_file_count(file: *const File, count: *mut usize) {
        let (file, count) = (raw::handle("file", file)?, raw::output("count", count)?);
        count.write(file.lock().len());
        Ok(())
    }

    fn w4ax_file_name(file: *const File, index: usize, name: *mut *const c_char) {
        let (file, name) = (raw::handle("file", file)?, raw::output("name", name)?);
        let weights = file.lock();
        let found = weights.keys().nth(index).ok_or_else(|| {
            not_found(format!("index {index} of a file with {} weights", weights.len()))
        })?;
        // The text of a key stays at its address: it is outside of the nodes of the map, and a key
        // is never replaced.
        name.write(found.as_ptr());
        Ok(())
    }

    fn w4ax_file_get(file: *const File, name: *const c_char, weight: *mut *mut Weight) {
        raw::create("weight", weight, || {
            let (file, name) = (raw::handle("file", file)?, raw::text("name", name)?);
            let key = CString::new(name).unwrap_or_default();
            let found = file.lock().get(&key).cloned();
            let found = found.ok_or_else(|| not_found(format!("the file has no weight `{name}`")))?;
            Ok(Weight(found))
        })
    }
}

free_functions! {
    w4ax_file_free(file: File);
}
