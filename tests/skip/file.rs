//! Files of adapters and controllers: round trips, and errors that name the tensor or the field.

use half::bf16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::Path;
use w4ax::Error;
use w4ax::skip::{Adapter, Controller, NetworkConfig, SkipFile};

fn adapter(seed: usize, d: usize, ha: usize) -> Adapter {
    let value = |i: usize| ((i * 7 + seed) % 13) as f32 * 0.25 - 1.5;
    Adapter {
        norm: (0..d).map(value).collect(),
        up: (0..ha * d).map(|i| bf16::from_f32(value(i))).collect(),
        down: (0..ha * d).map(|i| bf16::from_f32(value(i + 5))).collect(),
    }
}

/// A file for five layers of width 6, with static layers 0 and 3.
fn file() -> SkipFile {
    let (d, ha, hc) = (6, 4, 3);
    let controller = |seed: usize| Controller {
        norm: vec![1.0; d],
        hidden: vec![bf16::from_f32(seed as f32); hc * d],
        out: vec![0.5; hc],
        bias: -1.0,
    };
    SkipFile {
        config: NetworkConfig {
            layers: 5,
            width: d,
            static_layers: vec![0, 3],
            static_ratio: Some(0.4),
            similarity: vec![0.5, 0.9, 0.95, 0.6, 0.99],
            adapter_hidden: ha,
            controller_hidden: hc,
            lambda: 0.01,
            seed: 7,
            exit: Some(2),
        },
        adapters: [1, 2, 4].map(|l| (l, adapter(l, d, ha))).into(),
        controllers: [1, 2, 4].map(|l| (l, controller(l))).into(),
        exit: Some(adapter(9, d, ha)),
        metrics: serde_json::from_str(r#"{"val_error": 0.125}"#).unwrap(),
    }
}

#[test]
fn load_returns_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let mut saved = file();
    saved.save(&path).unwrap();
    assert_eq!(SkipFile::load(&path).unwrap(), saved);
    assert_eq!(saved.parameters(), 4 * (6 + 24 + 24) + 3 * (6 + 18 + 3 + 1));
    (saved.exit, saved.config.exit) = (None, None);
    saved.save(&path).unwrap();
    assert_eq!(SkipFile::load(&path).unwrap(), saved);
}

#[test]
fn save_rejects_networks_that_do_not_match_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let rejected = |change: &dyn Fn(&mut SkipFile), words: &str| {
        let mut file = file();
        change(&mut file);
        let error = file.save(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!path.exists());
    };
    rejected(&|f| drop(f.adapters.remove(&2)), "`adapters.2`");
    rejected(&|f| drop(f.controllers.remove(&4)), "`controllers.4`");
    rejected(&|f| drop(f.adapters.insert(3, adapter(1, 6, 4))), "layer 3");
    rejected(
        &|f| drop(f.adapters.insert(2, adapter(1, 6, 3))),
        "`adapters.2.up.weight`",
    );
    rejected(&|f| f.exit = None, "`exit`");
    rejected(&|f| f.config.exit = Some(5), "`exit` is 5");
    rejected(&|f| f.config.static_layers = vec![5], "static layers");
    rejected(&|f| f.config.similarity.truncate(4), "`similarity`");
    rejected(&|f| f.config.width = 0, "`width`");
}

#[test]
fn save_rejects_non_finite_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skip.safetensors");
    let rejected = |change: &dyn Fn(&mut SkipFile)| {
        let mut file = file();
        change(&mut file);
        let error = file.save(&path).unwrap_err();
        assert!(!path.exists());
        error
    };
    let of_tensor = |change: &dyn Fn(&mut SkipFile), tensor: &str, at: usize| match rejected(change)
    {
        Error::Tensor {
            tensor: name,
            reason,
            ..
        } => {
            assert_eq!(name, tensor);
            assert!(reason.contains(&format!("element {at} ")), "{reason}");
        }
        other => panic!("{tensor}: {other:?}"),
    };
    fn adapter(f: &mut SkipFile) -> &mut Adapter {
        f.adapters.get_mut(&2).unwrap()
    }
    fn controller(f: &mut SkipFile) -> &mut Controller {
        f.controllers.get_mut(&4).unwrap()
    }
    of_tensor(&|f| adapter(f).norm[5] = f32::NAN, "adapters.2.norm", 5);
    of_tensor(
        &|f| adapter(f).up[3] = bf16::INFINITY,
        "adapters.2.up.weight",
        3,
    );
    of_tensor(
        &|f| adapter(f).down[23] = bf16::NAN,
        "adapters.2.down.weight",
        23,
    );
    of_tensor(
        &|f| controller(f).norm[0] = f32::INFINITY,
        "controllers.4.norm",
        0,
    );
    of_tensor(
        &|f| controller(f).hidden[1] = bf16::NEG_INFINITY,
        "controllers.4.hidden.weight",
        1,
    );
    of_tensor(
        &|f| controller(f).out[2] = f32::NEG_INFINITY,
        "controllers.4.out.weight",
        2,
    );
    of_tensor(&|f| controller(f).bias = f32::NAN, "controllers.4.bias", 0);
    of_tensor(
        &|f| f.exit.as_mut().unwrap().norm[1] = f32::NAN,
        "exit.norm",
        1,
    );
    let of_config = |change: &dyn Fn(&mut SkipFile), field: &str| match rejected(change) {
        Error::Format { reason, .. } => assert!(reason.contains(field), "{reason}"),
        other => panic!("{field}: {other:?}"),
    };
    of_config(&|f| f.config.similarity[2] = f64::NAN, "`similarity`");
    of_config(&|f| f.config.lambda = f64::INFINITY, "`lambda`");
    // JSON would store NaN as null, which loads as `None`.
    of_config(
        &|f| f.config.static_ratio = Some(f64::NAN),
        "`static_ratio`",
    );
}

type Parts = (
    HashMap<String, String>,
    Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
);

fn parts(path: &Path) -> Parts {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter().map(|(name, view)| {
        (
            name.to_owned(),
            view.dtype(),
            view.shape().to_vec(),
            view.data().to_vec(),
        )
    });
    (header.metadata().clone().unwrap(), tensors.collect())
}

#[test]
fn load_rejects_invalid_files_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    file().save(&good).unwrap();
    let load = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts(&good);
        change(&mut parts);
        let views = parts.1.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, Some(parts.0)).unwrap();
        std::fs::write(&bad, bytes).unwrap();
        SkipFile::load(&bad)
    };
    assert_eq!(load(&|_| ()).unwrap(), file());
    let rejected = |change: &dyn Fn(&mut Parts), words: &str| {
        let error = load(change).unwrap_err();
        let known = matches!(
            error,
            Error::Format { .. } | Error::Tensor { .. } | Error::MissingTensor { .. }
        );
        let error = error.to_string();
        assert!(
            known && error.contains(words) && error.contains("bad"),
            "{error}"
        );
    };
    for field in ["format", "version", "config", "metrics"] {
        rejected(&|p| drop(p.0.remove(field)), field);
    }
    let set = |p: &mut Parts, field: &str, value: &str| {
        p.0.insert(field.into(), value.into());
    };
    rejected(&|p| set(p, "format", "w4ax"), "`w4ax`");
    rejected(&|p| set(p, "version", "2"), "version `2`");
    rejected(&|p| set(p, "version", "x"), "version");
    rejected(&|p| set(p, "config", "{"), "`config`");
    rejected(&|p| set(p, "metrics", "[]"), "`metrics`");
    let config = |p: &mut Parts, from: &str, to: &str| {
        let changed = p.0["config"].replace(from, to);
        assert_ne!(changed, p.0["config"]);
        set(p, "config", &changed);
    };
    rejected(
        &|p| config(p, "\"layers\":5", "\"layers\":6"),
        "`similarity`",
    );
    // The number of layers is checked before memory is allocated for it.
    rejected(
        &|p| config(p, "\"layers\":5", "\"layers\":18446744073709551615"),
        "`similarity`",
    );
    rejected(
        &|p| config(p, "\"width\":6", "\"width\":9223372036854775808"),
        "`adapters.1.norm`",
    );
    rejected(
        &|p| config(p, "\"width\":6", "\"width\":8"),
        "`adapters.1.norm`",
    );
    rejected(&|p| config(p, "[0,3]", "[0]"), "`adapters.3.norm`");
    rejected(&|p| config(p, "[0,3]", "[0,2,3]"), "`adapters.2.");
    rejected(&|p| config(p, "\"seed\"", "\"sead\""), "sead");
    fn tensor<'a>(p: &'a mut Parts, name: &str) -> &'a mut (String, Dtype, Vec<usize>, Vec<u8>) {
        p.1.iter_mut().find(|t| t.0 == name).unwrap()
    }
    rejected(
        &|p| p.1.retain(|t| t.0 != "controllers.4.bias"),
        "`controllers.4.bias`",
    );
    rejected(
        &|p| tensor(p, "adapters.2.up.weight").1 = Dtype::F16,
        "`adapters.2.up.weight`",
    );
    rejected(
        &|p| tensor(p, "adapters.2.up.weight").2 = vec![6, 4],
        "`adapters.2.up.weight`",
    );
    let nan = f32::NAN.to_le_bytes();
    rejected(
        &|p| tensor(p, "controllers.1.out.weight").3[4..8].copy_from_slice(&nan),
        "element 1",
    );

    let whole = std::fs::read(&good).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        std::fs::write(&bad, &whole[..length]).unwrap();
        assert!(matches!(SkipFile::load(&bad), Err(Error::Format { .. })));
    }
    let nowhere = SkipFile::load(folder.path().join("nowhere"));
    assert!(matches!(nowhere, Err(Error::Io { .. })));
}
