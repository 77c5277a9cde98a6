//! Typed access to the fields of a quantization configuration.

use crate::{Error, Result};
use serde_json::Value;

/// Why a configuration that changes the computation is rejected.
pub(super) const CHANGES_MODEL: &str = "the model computes more than its weights";
/// Why a configuration that quantizes activations is rejected.
pub(super) const OWN_ACTIVATIONS: &str = "this crate quantizes activations itself";

/// A JSON object, and the file that errors name.
pub(super) struct Fields<'a> {
    pub value: &'a Value,
    pub file: &'a str,
}

impl<'a> Fields<'a> {
    pub fn unsupported(&self, what: &str, reason: &str) -> Error {
        Error::unsupported(self.file, what, reason)
    }

    pub fn missing(&self, field: &str) -> Error {
        let reason = format!("quantization configuration: missing field `{field}`");
        Error::format(self.file, reason)
    }

    pub fn invalid(&self, field: &str, expected: &str) -> Error {
        let got = &self.value[field];
        let reason = format!("field `{field}` is {got}: expected {expected}");
        Error::format(self.file, reason)
    }

    /// Returns a field that is present and not null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.value.get(field).filter(|v| !v.is_null())
    }

    /// Returns the string in the first of these fields that is present, in lower case. All fields
    /// that are present must agree.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>> {
        let mut found: Option<String> = None;
        for name in names {
            let Some(value) = self.get(name) else {
                continue;
            };
            let text = value
                .as_str()
                .ok_or_else(|| self.invalid(name, "a string"))?;
            let text = text.to_lowercase();
            if let Some(found) = &found
                && *found != text
            {
                let reason = format!("expected `{found}` as in `{}`", names.join("` or `"));
                return Err(self.unsupported(&format!("{name} `{text}`"), &reason));
            }
            found = Some(text);
        }
        Ok(found)
    }

    pub fn flag(&self, field: &str) -> Result<Option<bool>> {
        let flag = |v: &Value| {
            v.as_bool()
                .ok_or_else(|| self.invalid(field, "true or false"))
        };
        self.get(field).map(flag).transpose()
    }

    pub fn names(&self, field: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let strings = |list: &Vec<Value>| {
            let owned = |v: &Value| v.as_str().map(str::to_owned);
            list.iter().map(owned).collect::<Option<Vec<_>>>()
        };
        (value.as_array().and_then(strings)).ok_or_else(|| self.invalid(field, "a list of names"))
    }

    /// Checks that the first of these fields that is present is 4.
    pub fn expect_four_bits(&self, names: &[&str]) -> Result<()> {
        let field = names.iter().find(|name| self.get(name).is_some());
        let field = field.ok_or_else(|| self.missing(names[0]))?;
        let bits = self.value[field].as_f64();
        let bits = bits.ok_or_else(|| self.invalid(field, "a number"))?;
        if bits != 4.0 {
            return Err(self.unsupported(&format!("{field} {bits}"), "expected 4"));
        }
        Ok(())
    }

    /// Returns the group size in k from the first of these fields that is present. `None` for -1,
    /// which is one group over all of K.
    pub fn group(&self, names: &[&str]) -> Result<Option<usize>> {
        let field = names.iter().find(|name| self.get(name).is_some());
        let field = field.ok_or_else(|| self.missing(names[0]))?;
        match self.value[field].as_i64() {
            None => Err(self.invalid(field, "an integer")),
            Some(-1) => Ok(None),
            Some(size) if size > 0 && size % 32 == 0 => usize::try_from(size)
                .map(Some)
                .map_err(|_| self.invalid(field, "a size within the address space")),
            Some(size) => {
                let what = format!("{field} {size}");
                Err(self.unsupported(&what, "expected a multiple of 32, or -1 for all of K"))
            }
        }
    }

    /// Rejects a field that is present with a value other than false or empty.
    pub fn expect_absent(&self, field: &str, reason: &str) -> Result<()> {
        let set = self.get(field).filter(|v| match v {
            Value::Object(o) => !o.is_empty(),
            Value::Array(a) => !a.is_empty(),
            Value::Bool(b) => *b,
            _ => true,
        });
        match set {
            Some(value) => Err(self.unsupported(&format!("{field} {value}"), reason)),
            None => Ok(()),
        }
    }

    /// Rejects the fields that GPTQ and AWQ writers share and this crate does not support.
    pub fn expect_common(&self) -> Result<()> {
        if let Some(dtype) = self.text(&["pack_dtype"])?
            && dtype != "int32"
        {
            let what = format!("pack_dtype `{dtype}`");
            return Err(self.unsupported(&what, "expected `int32`"));
        }
        // A module that `dynamic` excludes (`-:`) is plain. Any other rule changes its bits or
        // groups.
        if let Some(dynamic) = self.get("dynamic") {
            let rules = dynamic.as_object();
            let rules =
                rules.ok_or_else(|| self.invalid("dynamic", "an object of module patterns"))?;
            if let Some(rule) = rules.keys().find(|rule| !rule.starts_with("-:")) {
                let what = format!("dynamic `{rule}`");
                return Err(self.unsupported(&what, "expected one scheme for all modules"));
            }
        }
        self.expect_absent("rotation", CHANGES_MODEL)?;
        self.expect_absent("adapter", CHANGES_MODEL)?;
        self.expect_absent("activation", OWN_ACTIVATIONS)
    }
}
