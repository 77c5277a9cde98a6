//! Named weights, as one packed safetensors file holds them.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, MutexGuard};

use super::raw;
use super::status::{Failure, Result, Status, entry};
use super::threads::with_threads;
use super::weight::Weight;
use crate::PackedFile;
use crate::weights::packed_bytes_of;

/// `w4ax_file`.
#[derive(Default)]
pub struct File(Mutex<BTreeMap<CString, Weight>>);

impl File {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CString, Weight>> {
        // A map is whole at any time, whatever panicked.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn not_found(text: String) -> Failure {
    Failure::new(Status::NotFound, text)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_create(file: *mut *mut File) -> Status {
    // SAFETY: the contract of this function.
    entry(|| unsafe { raw::create("file", file, || Ok(File::default())) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_load(
    path: *const c_char,
    threads: u32,
    file: *mut *mut File,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let path = unsafe { raw::text("path", path)? };
            let loaded = with_threads(threads, || PackedFile::load(path))??;
            if let Some(name) = loaded.act_order.keys().next() {
                let text = format!(
                    "{path}: the k of weight `{name}` are in another order, which this interface has no gather for"
                );
                return Err(Failure::new(Status::BadFormat, text));
            }
            let mut weights = BTreeMap::new();
            for (name, weight) in loaded.weights {
                let name = CString::new(name).map_err(|e| {
                    let text = format!("{path}: the name of a weight holds a NUL: {e}");
                    Failure::new(Status::BadFormat, text)
                })?;
                weights.insert(name, Weight(Arc::new(weight)));
            }
            Ok(File(Mutex::new(weights)))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("file", file, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_free(file: *mut File) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(file) };
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_save(file: *const File, path: *const c_char) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (file, path) = unsafe { (raw::handle("file", file)?, raw::text("path", path)?) };
        let bytes = {
            let weights = file.lock();
            let named = |(name, weight): (&CString, &Weight)| {
                // They came in as UTF-8.
                (name.to_string_lossy().into_owned(), Arc::clone(&weight.0))
            };
            let named: Vec<_> = weights.iter().map(named).collect();
            packed_bytes_of((named.iter()).map(|(name, w)| (name.as_str(), w.as_ref(), None)))?
        };
        Ok(crate::file::write_atomically(path.as_ref(), &bytes)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_insert(
    file: *mut File,
    name: *const c_char,
    weight: *const Weight,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (file, name, weight) = unsafe {
            (
                raw::handle("file", file)?,
                raw::text("name", name)?,
                raw::handle("weight", weight)?,
            )
        };
        let name = CString::new(name).map_err(|e| Failure::new(Status::BadText, e.to_string()))?;
        let before = file.lock().insert(name, Weight(Arc::clone(&weight.0)));
        drop(before);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_count(file: *const File, count: *mut usize) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (file, count) = unsafe { (raw::handle("file", file)?, raw::output("count", count)?) };
        count.write(file.lock().len());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_name(
    file: *const File,
    index: usize,
    name: *mut *const c_char,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (file, name) = unsafe { (raw::handle("file", file)?, raw::output("name", name)?) };
        let weights = file.lock();
        let found = weights.keys().nth(index).ok_or_else(|| {
            let text = format!("weight {index} of a file with {}", weights.len());
            not_found(text)
        })?;
        // The string lies outside of the map's nodes and a key is never replaced: it stays where it is.
        name.write(found.as_ptr());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_get(
    file: *const File,
    name: *const c_char,
    weight: *mut *mut Weight,
) -> Status {
    entry(|| {
        let find = || -> Result<Weight> {
            // SAFETY: the contract of this function.
            let (file, name) = unsafe { (raw::handle("file", file)?, raw::text("name", name)?) };
            let key = CString::new(name).unwrap_or_default();
            let found = file.lock().get(&key).map(|w| Weight(Arc::clone(&w.0)));
            found.ok_or_else(|| not_found(format!("there is no weight `{name}`")))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("weight", weight, find) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActOrderWeight, Grouping, KOrder, MatRef, PackedWeight, Quantize};

    /// A weight that no call here could multiply is refused, not left out.
    #[test]
    fn a_weight_in_another_order_is_refused() {
        let weight = || -> PackedWeight {
            let plain = MatRef::new(&[0.5f32; 64], 2, 32).unwrap();
            Quantize::new(Grouping::G32).pack(plain).unwrap()
        };
        let order = KOrder::new((0..32).rev().collect()).unwrap();
        let mut packed = PackedFile::default();
        packed.weights.insert("a".into(), weight());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let text = CString::new(path.to_str().unwrap()).unwrap();
        let load = |packed: &PackedFile| {
            packed.save(&path).unwrap();
            let mut file = std::ptr::null_mut();
            // SAFETY: a string that ends, and a place for the handle, which is freed once.
            unsafe {
                let status = w4ax_file_load(text.as_ptr(), 1, &mut file);
                w4ax_file_free(file);
                status
            }
        };
        assert_eq!(load(&packed), Status::Ok);
        let ordered = ActOrderWeight::new(weight(), order).unwrap();
        packed.act_order.insert("b".into(), ordered);
        assert_eq!(load(&packed), Status::BadFormat);
    }
}
