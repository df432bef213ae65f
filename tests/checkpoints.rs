//! Hugging Face checkpoints: tiny random models against transformers, old and new spellings of a configuration, and what is
//! refused.
#![cfg(feature = "engine")]
mod common;
use common::device::Device;
use common::reference::tiny;
use kvick::backend::Float;
use kvick::models::{LoadOptions, ModelConfig, RopeScaling, load, read_config};
use kvick::weights::{Checkpoint, Data, ModelFile, open};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[test]
fn logits_of_llama() {
    tiny("llama").assert_close(&Device::open("cpu", Float::F16));
}

#[test]
fn logits_of_gemma3() {
    tiny("gemma3").assert_close(&Device::open("cpu", Float::F16));
}

fn config_json(name: &str) -> Value {
    let path = tiny(name).folder.join("config.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The fixture's weights under another configuration.
fn with_config(name: &str, config: &Value) -> ModelFile {
    let folder = tiny(name).folder;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let files = files.into_iter().map(|path| (Data::map(&path).unwrap(), path)).collect();
    ModelFile::Checkpoint(Checkpoint::parse(&folder, config.to_string().as_bytes(), files).unwrap())
}

/// Sets keys; null removes.
fn edited(name: &str, changes: Value) -> Value {
    let mut config = config_json(name);
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            value => config[key] = value.clone(),
        }
    }
    config
}

fn read(name: &str, config: &Value) -> kvick::Result<ModelConfig> {
    read_config(&with_config(name, config))
}

#[test]
fn older_spellings_mean_the_same() {
    let llama = edited(
        "llama",
        json!({"rope_parameters": null, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    );
    let expected = read("llama", &config_json("llama")).unwrap();
    assert!(matches!(expected.groups[0].rope.scaling, RopeScaling::Llama3 { .. }));
    assert_eq!(read("llama", &llama).unwrap(), expected);

    let gemma3 = edited(
        "gemma3",
        json!({"rope_parameters": null, "layer_types": null, "_sliding_window_pattern": null, "rope_theta": 1e6,
            "rope_local_base_freq": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0},
            "sliding_window_pattern": 6}),
    );
    let expected = read("gemma3", &config_json("gemma3")).unwrap();
    assert_eq!(
        expected.groups.iter().map(|g| (g.layers.len(), g.window)).collect::<Vec<_>>(),
        [(1, None), (5, Some(8))]
    );
    assert_eq!(read("gemma3", &gemma3).unwrap(), expected);
}

/// The bounds are tight enough for the smallest mistakes in reading a configuration.
#[test]
fn wrong_configurations_are_noticed() {
    let device = Device::open("cpu", Float::F16);
    let far = |name: &str, changes: Value| {
        let file = with_config(name, &edited(name, changes.clone()));
        let model = kvick::models::load_file(&file, &device.backend, &LoadOptions::default()).unwrap();
        let (mean, _) = tiny(name).distance(model);
        assert!(mean > 2e-4, "{name} with {changes}: KL {mean:.2e} looks right");
    };
    far("llama", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}));
    far("llama", json!({"tie_word_embeddings": true}));
    far("gemma3", json!({"sliding_window": 9}));
    far("gemma3", json!({"sliding_window": 7}));
    far("gemma3", json!({"query_pre_attn_scalar": 64}));
    let swapped = json!({"full_attention": {"rope_type": "default", "rope_theta": 1e4},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e6}});
    far("gemma3", json!({"rope_parameters": swapped}));
    let mut types = vec!["sliding_attention"; 6];
    types[4] = "full_attention";
    far("gemma3", json!({"layer_types": types}));
}

#[test]
fn what_is_not_computed_is_refused() {
    let refused = |name: &str, changes: Value, says: &str| {
        let device = Device::open("cpu", Float::F16);
        let file = with_config(name, &edited(name, changes.clone()));
        let error = kvick::models::load_file(&file, &device.backend, &LoadOptions::default()).err();
        let message = error.unwrap_or_else(|| panic!("{name} with {changes} was taken")).to_string();
        assert!(message.contains(says), "{name} with {changes}: {message}");
    };
    refused("llama", json!({"model_type": "mamba"}), "kvick runs llama and gemma3");
    refused("llama", json!({"model_type": null}), "model_type is missing");
    refused("llama", json!({"hidden_act": "relu"}), "silu");
    refused("llama", json!({"mlp_bias": true}), "mlp_bias");
    refused("llama", json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}), "yarn");
    refused("llama", json!({"num_hidden_layers": 1}), "model.layers.1");
    refused("llama", json!({"num_hidden_layers": 3}), "model.layers.2");
    refused("llama", json!({"hidden_size": 128}), "has shape");
    refused("llama", json!({"hidden_size": "large"}), "hidden_size");
    refused("llama", json!({"num_attention_heads": 3, "num_key_value_heads": 2}), "cannot share");
    refused("llama", json!({"rms_norm_eps": 0.0}), "epsilon");
    refused("gemma3", json!({"layer_types": ["full_attention"]}), "layer_types");
    refused("gemma3", json!({"sliding_window": 0}), "window");
    refused("gemma3", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention");
}

#[test]
fn missing_parts_are_named() {
    let device = Device::open("cpu", Float::F16);
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| load(path, &device.backend, &LoadOptions::default()).err().unwrap().to_string();
    assert!(message(folder.path()).contains("config.json"));
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(message(folder.path()).contains("not JSON"));
    std::fs::write(folder.path().join("config.json"), config_json("llama").to_string()).unwrap();
    assert!(message(folder.path()).contains(".safetensors"));
    let other = folder.path().join("picture.gguf");
    std::fs::write(&other, "not a model at all").unwrap();
    assert!(message(&other).contains("GGUF"));
    std::fs::write(&other, "").unwrap();
    assert!(message(&other).contains("GGUF"));
    assert!(message(&folder.path().join("nothing.gguf")).contains("nothing.gguf"));
}

/// A folder, its config.json and its weights all name the same model.
#[test]
fn any_file_of_the_folder_will_do() {
    let folder = tiny("llama").folder;
    let expected = read_config(&open(&folder).unwrap()).unwrap();
    for name in ["config.json", "model.safetensors"] {
        assert_eq!(read_config(&open(&folder.join(name)).unwrap()).unwrap(), expected, "{name}");
    }
}
