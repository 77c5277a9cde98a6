//! The fields of a quantization's configuration, and what each format's must say.

use super::config::{GptqZeros, Scheme};
use crate::{Error, Result};
use serde_json::Value;

/// The fields of a configuration, with the file that errors name.
pub(super) struct Fields<'a> {
    pub value: &'a Value,
    pub file: &'a str,
}

impl<'a> Fields<'a> {
    pub fn refuse(&self, what: &str, reason: &str) -> Error {
        Error::unsupported(self.file, what, reason)
    }

    pub fn missing(&self, field: &str) -> Error {
        let reason = format!("the quantization's configuration has no field `{field}`");
        Error::format(self.file, reason)
    }

    fn wrong(&self, field: &str, expected: &str) -> Error {
        let got = &self.value[field];
        Error::format(
            self.file,
            format!("field `{field}` is {got}, expected {expected}"),
        )
    }

    /// A field that is there and not null.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.value.get(field).filter(|v| !v.is_null())
    }

    /// The first of these fields, in lower case; if more are there, they must agree.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>> {
        let mut found: Option<String> = None;
        for name in names {
            let Some(value) = self.get(name) else {
                continue;
            };
            let text = value.as_str().ok_or_else(|| self.wrong(name, "a string"))?;
            let text = text.to_lowercase();
            if let Some(found) = &found
                && *found != text
            {
                let reason = format!("`{}` says `{found}`", names.join("` or `"));
                return Err(self.refuse(&format!("{name} `{text}`"), &reason));
            }
            found = Some(text);
        }
        Ok(found)
    }

    fn flag(&self, field: &str) -> Result<Option<bool>> {
        self.get(field)
            .map(|v| {
                v.as_bool()
                    .ok_or_else(|| self.wrong(field, "true or false"))
            })
            .transpose()
    }

    pub fn names(&self, field: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let strings = |list: &Vec<Value>| {
            let owned = |v: &Value| v.as_str().map(str::to_owned);
            list.iter().map(owned).collect::<Option<Vec<_>>>()
        };
        (value.as_array().and_then(strings)).ok_or_else(|| self.wrong(field, "a list of names"))
    }

    fn four_bits(&self, names: &[&str]) -> Result<()> {
        let field = names.iter().find(|name| self.get(name).is_some());
        let field = field.ok_or_else(|| self.missing(names[0]))?;
        let bits = self.value[field].as_f64();
        let bits = bits.ok_or_else(|| self.wrong(field, "a number"))?;
        if bits != 4.0 {
            let what = format!("{field} {bits}");
            return Err(self.refuse(&what, "this crate's weights have 4 bits"));
        }
        Ok(())
    }

    /// k of a group; -1 is all of K.
    fn group(&self, names: &[&str]) -> Result<Option<usize>> {
        let field = names.iter().find(|name| self.get(name).is_some());
        let field = field.ok_or_else(|| self.missing(names[0]))?;
        match self.value[field].as_i64() {
            None => Err(self.wrong(field, "a whole number")),
            Some(-1) => Ok(None),
            Some(size) if size > 0 && size % 32 == 0 => usize::try_from(size)
                .map(Some)
                .map_err(|_| self.wrong(field, "a size of this machine")),
            Some(size) => Err(self.refuse(
                &format!("{field} {size}"),
                "groups are multiples of 32 k, or all of K (-1)",
            )),
        }
    }

    /// Refuses a field that is there and says something.
    fn must_be_absent(&self, field: &str, reason: &str) -> Result<()> {
        let said = self.get(field).filter(|v| match v {
            Value::Object(o) => !o.is_empty(),
            Value::Array(a) => !a.is_empty(),
            Value::Bool(b) => *b,
            _ => true,
        });
        match said {
            Some(value) => Err(self.refuse(&format!("{field} {value}"), reason)),
            None => Ok(()),
        }
    }

    pub fn awq(&self) -> Result<Scheme> {
        self.four_bits(&["bits", "w_bit"])?;
        let version = self
            .text(&["version", "format", "checkpoint_format"])?
            .ok_or_else(|| self.missing("version"))?;
        if version != "gemm" {
            let what = format!("awq version `{version}`");
            return Err(self.refuse(&what, "this crate reads awq's `gemm`"));
        }
        self.common()?;
        Ok(Scheme::Awq {
            group: self.group(&["group_size", "q_group_size"])?,
        })
    }

    pub fn gptq(&self) -> Result<Scheme> {
        self.four_bits(&["bits"])?;
        self.must_be_absent("is_marlin_format", "this crate reads gptq and gptq_v2")?;
        let format = self.text(&["checkpoint_format", "format"])?;
        let zeros = match format.as_deref() {
            Some("gptq_v2") => GptqZeros::V2,
            Some("gptq") | None if self.by_gptqmodel() => GptqZeros::V1Words,
            Some("gptq") | None => GptqZeros::V1Nibbles,
            Some(format) => {
                let what = format!("checkpoint_format `{format}`");
                return Err(self.refuse(&what, "this crate reads gptq and gptq_v2"));
            }
        };
        self.common()?;
        Ok(Scheme::Gptq {
            group: self.group(&["group_size"])?,
            zeros,
            desc_act: self.flag("desc_act")?.unwrap_or(false),
        })
    }

    /// Whether `meta.quantizer` names GPTQModel.
    fn by_gptqmodel(&self) -> bool {
        let quantizer = &self.value["meta"]["quantizer"];
        let named = |v: &Value| {
            let text = v.as_str().unwrap_or("").to_lowercase();
            text.split(':').next() == Some("gptqmodel")
        };
        match quantizer {
            Value::Array(list) => list.iter().any(named),
            one => named(one),
        }
    }

    /// What GPTQ and AWQ writers share.
    fn common(&self) -> Result<()> {
        if let Some(dtype) = self.text(&["pack_dtype"])?
            && dtype != "int32"
        {
            let what = format!("pack_dtype `{dtype}`");
            return Err(self.refuse(&what, "this crate reads words of int32"));
        }
        // A module that `dynamic` leaves out (`-:`) is plain; one that it changes has bits or groups of its own.
        if let Some(dynamic) = self.get("dynamic") {
            let rules = (dynamic.as_object())
                .ok_or_else(|| self.wrong("dynamic", "an object of module patterns"))?;
            if let Some(rule) = rules.keys().find(|rule| !rule.starts_with("-:")) {
                let what = format!("dynamic `{rule}`");
                return Err(self.refuse(&what, "all modules must have the same bits and groups"));
            }
        }
        let needs = "the model computes more than its weights say";
        self.must_be_absent("rotation", needs)?;
        self.must_be_absent("adapter", needs)?;
        self.must_be_absent(
            "activation",
            "activations are quantized by this crate alone",
        )
    }

    pub fn compressed_tensors(&self) -> Result<Scheme> {
        let format = self.text(&["format"])?;
        let format = format.ok_or_else(|| self.missing("format"))?;
        if format != "pack-quantized" && format != "mixed-precision" {
            let what = format!("format `{format}`");
            return Err(self.refuse(&what, "this crate reads `pack-quantized`"));
        }
        if let Some(status) = self.text(&["quantization_status"])?
            && status != "compressed"
        {
            let what = format!("quantization_status `{status}`");
            return Err(self.refuse(&what, "the weights are not packed"));
        }
        if let Some(sparsity) = self.get("sparsity_config") {
            let dense = sparsity.get("format").and_then(Value::as_str);
            if dense != Some("dense") && sparsity.as_object().is_none_or(|o| !o.is_empty()) {
                let what = format!("sparsity_config {sparsity}");
                return Err(self.refuse(&what, "this crate reads dense weights"));
            }
        }
        let needs = "the model computes more than its weights say";
        self.must_be_absent("transform_config", needs)?;
        let groups = self.get("config_groups").and_then(Value::as_object);
        let groups = groups.ok_or_else(|| self.missing("config_groups"))?;
        let mut scheme: Option<(Scheme, &str)> = None;
        for (name, group) in groups {
            let fields = Fields {
                value: group,
                file: self.file,
            };
            let found = fields
                .config_group(&format, name)
                .map_err(|e| in_group(e, name))?;
            match scheme {
                Some((scheme, first)) if scheme != found => {
                    let what = format!("config_groups `{first}` and `{name}` that differ");
                    return Err(
                        self.refuse(&what, "all modules must have the same bits and groups")
                    );
                }
                _ => scheme = Some((found, name)),
            }
        }
        scheme.map(|(scheme, _)| scheme).ok_or_else(|| {
            let what = "config_groups without a group";
            self.refuse(what, "there is nothing that says what is quantized")
        })
    }

    fn config_group(&self, format: &str, name: &str) -> Result<Scheme> {
        if !self.value.is_object() {
            let what = format!("config_groups `{name}` by a preset's name");
            return Err(self.refuse(&what, "the scheme must be written out"));
        }
        let own = self.text(&["format"])?.unwrap_or_else(|| format.into());
        if own != "pack-quantized" {
            let what = format!("format `{own}`");
            return Err(self.refuse(&what, "this crate reads `pack-quantized`"));
        }
        let alone = "activations are quantized by this crate alone";
        self.must_be_absent("input_activations", alone)?;
        self.must_be_absent("output_activations", alone)?;
        let weights = self.get("weights").ok_or_else(|| self.missing("weights"))?;
        let weights = Fields {
            value: weights,
            file: self.file,
        };
        weights.four_bits(&["num_bits"])?;
        for (field, wanted) in [("type", &["int"][..]), ("strategy", &["group", "channel"])] {
            let said = weights.text(&[field])?;
            let said = said.ok_or_else(|| weights.missing(field))?;
            if !wanted.contains(&said.as_str()) {
                let reason = format!("this crate reads {}", wanted.join(" and "));
                return Err(self.refuse(&format!("{field} `{said}`"), &reason));
            }
        }
        weights.must_be_absent("dynamic", "weights have scales of their own")?;
        let act_order = match weights.get("actorder") {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Bool(true)) => true,
            Some(_) => match weights.text(&["actorder"])?.as_deref() {
                Some("group" | "dynamic") => true,
                // Calibration alone was in that order: the groups are plain runs of k.
                Some("weight" | "static") | None => false,
                Some(kind) => {
                    let what = format!("actorder `{kind}`");
                    return Err(self.refuse(&what, "this crate reads group and weight"));
                }
            },
        };
        let group = if weights.text(&["strategy"])?.as_deref() == Some("group") {
            let size = weights.group(&["group_size"])?;
            Some(size.ok_or_else(|| weights.wrong("group_size", "a size, for strategy `group`"))?)
        } else {
            None
        };
        Ok(Scheme::CompressedTensors {
            group,
            symmetric: weights.flag("symmetric")?.unwrap_or(true),
            act_order,
        })
    }
}

/// Names the configuration group that an error is about.
fn in_group(error: Error, name: &str) -> Error {
    match error {
        Error::Unsupported { file, what, reason } => {
            Error::unsupported(file, format!("config_groups `{name}`: {what}"), reason)
        }
        Error::Format { file, reason } => {
            Error::format(file, format!("config_groups `{name}`: {reason}"))
        }
        other => other,
    }
}
