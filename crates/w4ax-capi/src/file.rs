//! Named weights, as one packed safetensors file holds them.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, MutexGuard};

use super::order::Order;
use super::raw;
use super::status::{Failure, Result, Status, entry};
use super::threads::with_threads;
use super::weight::Weight;
use w4ax::weights::PackedWriter;
use w4ax::{KOrder, PackedFile, PackedWeight};

/// `w4ax_file`.
#[derive(Default)]
pub struct File(Mutex<BTreeMap<CString, Stored>>);

/// A weight of a file.
#[derive(Clone)]
struct Stored {
    weight: Arc<PackedWeight>,
    /// Where its k stand in another order than the matrix has them.
    order: Option<Arc<KOrder>>,
}

impl File {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CString, Stored>> {
        // A map is whole at any time, whatever panicked.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// # Safety
    /// As [`raw::text`], for the name.
    unsafe fn find(&self, name: *const c_char) -> Result<(&str, Stored)> {
        // SAFETY: passed on.
        let name = unsafe { raw::text("name", name)? };
        let key = CString::new(name).unwrap_or_default();
        let found = self.lock().get(&key).cloned();
        let found = found.ok_or_else(|| not_found(format!("there is no weight `{name}`")))?;
        Ok((name, found))
    }

    /// # Safety
    /// As [`raw::text`], for the name.
    unsafe fn insert(&self, name: *const c_char, stored: Stored) -> Result<()> {
        // SAFETY: passed on.
        let name = unsafe { raw::text("name", name)? };
        let name = CString::new(name).map_err(|e| Failure::new(Status::BadText, e.to_string()))?;
        let before = self.lock().insert(name, stored);
        // Not under the lock.
        drop(before);
        Ok(())
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
            let mut weights = BTreeMap::new();
            for (name, weight) in loaded.weights {
                let (weight, order) = weight.split_order();
                let order = order.map(Arc::new);
                let name = CString::new(name).map_err(|e| {
                    let text = format!("{path}: the name of a weight holds a NUL: {e}");
                    Failure::new(Status::BadFormat, text)
                })?;
                let weight = Arc::new(weight);
                weights.insert(name, Stored { weight, order });
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
        // The map is not locked while the file is written.
        let weights: Vec<(CString, Stored)> = {
            let weights = file.lock();
            (weights
                .iter()
                .map(|(name, stored)| (name.clone(), stored.clone())))
            .collect()
        };
        let name_bytes = weights.iter().map(|(name, _)| name.count_bytes()).sum();
        let mut writer = PackedWriter::create(path.as_ref(), weights.len(), 0, name_bytes)?;
        for (name, Stored { weight, order }) in &weights {
            // Names are UTF-8 since `insert`.
            let name = name.to_string_lossy();
            match order {
                Some(order) => {
                    let weight = weight.as_ref().clone().with_order(order.as_ref().clone())?;
                    writer.weight(&name, &weight)?;
                }
                None => writer.weight(&name, weight)?,
            }
        }
        Ok(writer.finish()?)
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
        unsafe {
            let (file, weight) = (raw::handle("file", file)?, raw::handle("weight", weight)?);
            let weight = Arc::clone(&weight.0);
            file.insert(
                name,
                Stored {
                    weight,
                    order: None,
                },
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_insert_act_order(
    file: *mut File,
    name: *const c_char,
    weight: *const Weight,
    order: *const Order,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe {
            let (file, weight) = (raw::handle("file", file)?, raw::handle("weight", weight)?);
            let order = raw::handle("order", order)?;
            let (of, k) = (order.0.as_slice().len(), weight.0.k());
            if of != k {
                let text = format!("order: it is of {of} k, the weight has {k}");
                return Err(Failure::new(Status::BadShape, text));
            }
            let weight = Arc::clone(&weight.0);
            let order = Some(Arc::clone(&order.0));
            file.insert(name, Stored { weight, order })
        }
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
        let find = || {
            // SAFETY: the contract of this function.
            let (name, found) = unsafe { raw::handle("file", file)?.find(name)? };
            if found.order.is_some() {
                let text = format!(
                    "`{name}`: its activations must be gathered first; take it by w4ax_file_get_act_order"
                );
                return Err(Failure::new(Status::BadFormat, text));
            }
            Ok(Weight(found.weight))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("weight", weight, find) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_file_get_act_order(
    file: *const File,
    name: *const c_char,
    weight: *mut *mut Weight,
    order: *mut *mut Order,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (weight, order) =
            unsafe { (raw::output("weight", weight)?, raw::output("order", order)?) };
        weight.write(std::ptr::null_mut());
        order.write(std::ptr::null_mut());
        // SAFETY: the contract of this function.
        let (_, found) = unsafe { raw::handle("file", file)?.find(name)? };
        if let Some(found) = found.order {
            order.write(Box::into_raw(Box::new(Order(found))));
        }
        weight.write(Box::into_raw(Box::new(Weight(found.weight))));
        Ok(())
    })
}
