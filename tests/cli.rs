//! The program as a user runs it: what it prints, its JSON, its exit codes, and what it says of bad input. On a tiny model
//! and the device `cpu`.
#![cfg(all(feature = "cli", unix))]
mod common;
use common::gguf::{Value, tiny_llama};
use common::program::{Program, Run, interrupt, tiny};
use serde_json::{Value as Json, json};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

fn ids(answer: &Json) -> Vec<u64> {
    answer["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn generate_streams_text_and_says_how_fast() {
    let program = Program::new();
    let run = program.model("generate", &["ABC", "--max-tokens", "5", "--ignore-eos"]);
    assert_eq!(run.stdout.trim_end_matches('\n').chars().count(), 5, "{run:?}");
    assert!(run.stderr.contains("5 tokens, ") && run.stderr.contains("tokens/s, cpu"), "{}", run.stderr);
    let json = program.model("generate", &["ABC", "--max-tokens", "5", "--ignore-eos", "--json"]).json();
    assert_eq!(json[0]["text"].as_str().unwrap(), run.stdout.trim_end_matches('\n'));
}

#[test]
fn several_prompts_answer_in_order_as_they_would_alone() {
    let program = Program::new();
    let file = program.write("prompts", "DEF\n\n  \nZYXWVUTSRQ\n");
    let file = file.to_str().unwrap();
    let options = ["--max-tokens", "12", "--json", "--step-tokens", "16"];
    let together = program.model("generate", &[&["ABC", "A", "--prompts", file][..], &options].concat()).json();
    assert_eq!(together.len(), 4);
    for (i, prompt) in ["ABC", "A", "DEF", "ZYXWVUTSRQ"].into_iter().enumerate() {
        let alone = program.model("generate", &[&[prompt][..], &options].concat()).json();
        let mut expected = alone[0].clone();
        expected["index"] = json!(i);
        assert_eq!(together[i], expected);
        assert_eq!(together[i]["prompt_tokens"], prompt.len());
        assert_eq!(ids(&together[i]).len() as u64, together[i]["tokens"].as_u64().unwrap());
        let reason = together[i]["finish_reason"].as_str().unwrap();
        assert!(reason == "stop" || (reason == "length" && together[i]["tokens"] == 12), "{}", together[i]);
    }
}

#[test]
fn a_seed_repeats_its_text_whatever_runs_beside_it() {
    let program = Program::new();
    let options = ["--temperature", "3", "--max-tokens", "20", "--ignore-eos", "--json"];
    let draw = |prompts: &[&str], seed: &str| {
        let answers = program.model("generate", &[prompts, &options, &["--seed", seed]].concat()).json();
        ids(&answers[0])
    };
    assert_eq!(draw(&["ABC"], "1"), draw(&["ABC", "XYZ", "QRSTUV"], "1"));
    assert_ne!(draw(&["ABC"], "1"), draw(&["ABC"], "2"));
}

#[test]
fn a_stop_text_ends_and_is_cut() {
    let program = Program::new();
    let options = ["--max-tokens", "20", "--ignore-eos", "--json"];
    let whole = program.model("generate", &[&["ABC"][..], &options].concat()).json();
    let text = whole[0]["text"].as_str().unwrap();
    let stop = &text[4..6];
    let cut = program.model("generate", &[&["ABC", "--stop", stop][..], &options].concat()).json();
    assert_eq!(cut[0]["text"].as_str().unwrap(), &text[..text.find(stop).unwrap()]);
    assert_eq!(cut[0]["finish_reason"], "stop");
}

#[test]
fn samples_share_their_prompt_and_the_report_says_what_was_found() {
    let program = Program::with_context(256);
    let prompt = "ABCDEFGHIJKLMNOPQRSTUVWXYZ".repeat(2);
    let options = ["--max-tokens", "4", "--ignore-eos", "--temperature", "9", "--seed", "3"];
    let json = program
        .model("generate", &[&[&prompt[..], "--samples", "3", "--json", "--cache-report"][..], &options].concat());
    let json = json.json();
    assert_eq!(json.len(), 4, "three answers and the report");
    let place = |answer: &Json| (answer["index"].as_u64(), answer["sample"].as_u64(), answer["cached_tokens"].as_u64());
    assert_eq!(
        [0, 1, 2].map(|i| place(&json[i])),
        [0, 1, 2].map(|i| (Some(0), Some(i), Some(if i == 0 { 0 } else { 52 })))
    );
    assert!(ids(&json[0]) != ids(&json[1]) && ids(&json[1]) != ids(&json[2]), "{json:?}");
    let single = program.model("generate", &[&[&prompt[..], "--json"][..], &options].concat()).json();
    assert_eq!(ids(&single[0]), ids(&json[0]), "the first sample is the answer without others");
    let cache = &json[3]["cache"];
    let count = |name: &str| cache[name].as_u64().unwrap();
    assert_eq!(["requests", "tokens", "forked_tokens", "saved_tokens"].map(count), [1, 52, 104, 104]);
    assert_eq!((&cache["missed"]["cold"], &cache["tiers"][0]["tokens"]), (&json!(52), &json!(0)));
    // Each sample but one writes to its own copy of the page that the prompt ends in.
    assert!(count("copied_bytes") > 0 && cache["saved_seconds"].as_f64().unwrap() > 0.0, "{cache}");

    let same = [&prompt[..], &prompt, "--cache-report", "--max-seqs", "1", "--max-tokens", "1", "--salt", "me"];
    let run = program.model("generate", &same);
    let row = |name: &str| -> u64 {
        let line =
            run.stderr.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{run:?}"));
        line.trim_start()[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!((row("asked for"), row("found, device"), row("missed"), row("cold")), (104, 51, 53, 52));
    assert_eq!((row("last token, whose logits are wanted"), row("not computed")), (1, 51));
    program.model("generate", &["A", "--samples", "17"]).fails(1, &["17 samples", "--max-seqs"]);
}

#[test]
fn tokenize_knows_text_from_control_tokens() {
    let program = Program::new();
    let one = |args: &[&str]| program.model("tokenize", args).json();
    assert_eq!(one(&["ABC", "--json"]), [json!({ "ids": [0, 1, 2] })]);
    assert_eq!(one(&["", "--json"]), [json!({ "ids": [] })]);
    assert_eq!(one(&["A@>B", "--json"]), [json!({ "ids": [0, 1] })], "its characters are not in this vocabulary");
    assert_eq!(one(&["A@>B", "--json", "--special"]), [json!({ "ids": [0, 26, 1] })]);
    let file = program.write("text", "BA");
    assert_eq!(one(&["--file", file.to_str().unwrap(), "--json"]), [json!({ "ids": [1, 0] })]);
    assert_eq!(program.model("tokenize", &["AB"]).ok(), "       0  \"A\"\n       1  \"B\"\n");
}

#[test]
fn a_chat_goes_through_the_template() {
    let program = Program::new();
    let answer = |args: &[&str]| program.model("generate", &[args, &["--max-tokens", "3", "--json"]].concat()).json();
    let chat = answer(&["AB", "--chat"]);
    assert_eq!(chat[0]["prompt_tokens"], 5);
    assert_eq!(ids(&chat[0]), ids(&answer(&["@>AB@>Z", "--special"])[0]));
    assert_eq!(answer(&["A@>B", "--chat"])[0]["prompt_tokens"], 5, "the message's own @> is no token");
}

#[test]
fn logits_are_lines_by_position() {
    let program = Program::new();
    let all = program.model("logits", &["ABCD", "--json", "--top", "3"]).json();
    assert_eq!(all.iter().map(|l| l["position"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let best = |line: &Json| line["top"][0][1].as_f64().unwrap();
    for line in &all {
        assert_eq!(line["top"].as_array().unwrap().len(), 3);
        assert!(best(line) < line["logsumexp"].as_f64().unwrap());
    }
    let last = program.model("logits", &["--ids", "0,1,2,3", "--last", "1", "--json", "--top", "3"]).json();
    assert_eq!(last, all[3..]);
    let next = program.model("generate", &["ABCD", "--max-tokens", "1", "--ignore-eos", "--json"]).json();
    assert_eq!(all[3]["top"][0][0], next[0]["ids"][0]);
    assert_eq!(program.model("logits", &["ABCD"]).ok().lines().count(), 4);
}

#[test]
fn perplexity_counts_the_second_half_of_whole_chunks() {
    let program = Program::new();
    program.write("text", "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    let run = program.model("perplexity", &["--text", "text", "--chunk", "8", "--json"]);
    assert!(run.stderr.contains("chunk 3 of 3"), "{}", run.stderr);
    let result = run.json().remove(0);
    assert_eq!((&result["scored"], &result["chunks"]), (&json!(9), &json!(3)));
    let loss = |from: usize, ids: &str| {
        let lines = program.model("logits", &["--ids", ids, "--top", "32", "--json"]).json();
        let nll = |line: &Json, next: u64| {
            let top = line["top"].as_array().unwrap();
            let logit = top.iter().find(|t| t[0] == next).unwrap()[1].as_f64().unwrap();
            line["logsumexp"].as_f64().unwrap() - logit
        };
        (4..7).map(|p| nll(&lines[p], (from + p + 1) as u64)).sum::<f64>()
    };
    let total = loss(0, "0,1,2,3,4,5,6,7") + loss(8, "8,9,10,11,12,13,14,15") + loss(16, "16,17,18,19,20,21,22,23");
    let expected = (total / 9.0).exp();
    assert!((result["perplexity"].as_f64().unwrap() / expected - 1.0).abs() < 1e-5, "{result} {expected}");
    program.model("perplexity", &["--text", "text", "--chunk", "40"]).fails(1, &["no whole chunk"]);
}

#[test]
fn inspect_says_what_is_in_the_file_and_what_it_needs() {
    let program = Program::new();
    let about = program.run(&["inspect", "tiny.gguf", "--device", "cpu", "--json"]).json().remove(0);
    assert_eq!((&about["architecture"], &about["layers"], &about["vocab"]), (&json!("llama"), &json!(1), &json!(32)));
    let types = about["tensors"].as_array().unwrap();
    assert_eq!(types.iter().map(|t| t["count"].as_u64().unwrap()).sum::<u64>(), 11);
    let memory = &about["memory"];
    let part = |name: &str| memory[name].as_u64().unwrap();
    assert_eq!(part("weights"), types.iter().map(|t| t["bytes"].as_u64().unwrap()).sum::<u64>());
    let parts = ["weights", "rope", "workspace", "batch", "scratch", "transfers", "kv"];
    assert_eq!(part("total"), parts.into_iter().map(part).sum::<u64>());
    let limited = program.run(&["inspect", "tiny.gguf", "--device", "cpu", "--json", "--kv-memory", "10KiB"]).json();
    let kv = limited[0]["memory"]["kv"].as_u64().unwrap();
    assert!(kv > 0 && kv <= 10 << 10, "{kv}");
    let transfers = |tiers: &[&str]| {
        let args = [&["inspect", "tiny.gguf", "--device", "emulator", "--json"], tiers].concat();
        program.run(&args).json()[0]["memory"]["transfers"].as_u64().unwrap()
    };
    let (exact, packed) = (transfers(&["--kv-tier", "host=1MiB"]), transfers(&["--kv-tier", "host=1MiB,dtype=int4"]));
    assert!(transfers(&[]) == 0 && exact > 0 && packed > exact, "{exact} bytes, and {packed} to quantise");
    let text = program.run(&["inspect", "tiny.gguf", "--device", "cpu"]).ok();
    assert!(text.contains("llama: 1 layers") && text.contains("weights"), "{text}");
}

#[test]
fn models_lists_names() {
    let models = Program::new().run(&["models", "--json"]).json();
    let names: Vec<&str> = models.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["smollm2-135m", "gemma3-270m"]);
    assert!(models.iter().all(|m| m["fetched"] == false), "the cache of the test is empty");
}

#[test]
fn wrong_usage_is_2() {
    let program = Program::new();
    program.model::<&str>("generate", &[]).fails(2, &["give a prompt"]);
    program.model::<&str>("tokenize", &[]).fails(2, &["--file"]);
    program.model::<&str>("logits", &[]).fails(2, &["--ids"]);
    program.model("generate", &["A", "--no-such-flag"]).fails(2, &["--no-such-flag"]);
    program.model("generate", &["A", "--max-tokens", "many"]).fails(2, &["--max-tokens"]);
    program.model("generate", &["A", "--kv-memory", "5 apples"]).fails(2, &["512MiB"]);
    program.model("tokenize", &["A", "--file", "f"]).fails(2, &["--file"]);
    program.run(&["frobnicate"]).fails(2, &["frobnicate"]);
    program.run::<&str>(&[]).fails(2, &["Usage"]);
    program.model("generate", &[OsStr::from_bytes(b"A\xff")]).fails(2, &["UTF-8"]);
}

#[test]
fn prompts_that_cannot_be_served_say_why() {
    let program = Program::new();
    let long = "A".repeat(64);
    program.model("generate", &[""]).fails(1, &["no token"]);
    program.model("generate", &["A", ""]).fails(1, &["prompt 1", "no token"]);
    program.model("generate", &[&long]).fails(1, &["64 tokens", "context of 64"]);
    program.model("generate", &["A", "--context", "0"]).fails(1, &["context"]);
    program.model("generate", &[&long[..40], "--kv-memory", "2KiB"]).fails(1, &["40 tokens", "--kv-memory"]);
    program.model("generate", &["A", "--kv-memory", "100"]).fails(1, &["--kv-memory", "at least"]);
    program.model("generate", &["A", "--kv-memory", "8000000GB"]).fails(1, &["--kv-memory"]);
    program.model("generate", &["A", "--temperature=-1"]).fails(1, &["temperature"]);
    program.model("generate", &["A", "--max-tokens", "0"]).fails(1, &["at least one"]);
    program.model("logits", &[""]).fails(1, &["no token"]);
    program.model("logits", &["--ids", "5,32"]).fails(1, &["32", "vocabulary"]);
    program.model("logits", &[&"A".repeat(65)]).fails(1, &["context"]);
    program.write("latin1", b"AB\nC\xe9\n");
    program.model("generate", &["--prompts", "latin1"]).fails(1, &["latin1", "UTF-8", "byte 4"]);
    program.model("tokenize", &["--file", "latin1"]).fails(1, &["latin1", "UTF-8"]);
    program.model("generate", &["--prompts", "missing"]).fails(1, &["missing"]);
    program.model("perplexity", &["--text", "missing"]).fails(1, &["missing"]);
    let full = program.model("generate", &[&long[..60], "--max-tokens", "100", "--ignore-eos", "--json"]).json();
    assert_eq!((&full[0]["tokens"], &full[0]["finish_reason"]), (&json!(4), &json!("length")));
}

#[test]
fn models_that_cannot_be_used_say_why() {
    let program = Program::new();
    let generate = |model: &str| program.run(&["generate", "A", "--device", "cpu", "--model", model]);
    generate("missing.gguf").fails(1, &["missing.gguf", "smollm2-135m", "hf:"]);
    generate("hf:not a name").fails(1, &["hf:owner/name"]);
    let (_, bytes) = tiny(64).finish();
    program.write("short.gguf", &bytes[..bytes.len() - 100]);
    generate("short.gguf").fails(1, &["short.gguf"]);
    program.write("text.gguf", "this is not a model");
    generate("text.gguf").fails(1, &["text.gguf"]);
    program.write("empty.gguf", "");
    generate("empty.gguf").fails(1, &["empty.gguf"]);
    let write = |name: &str, key: &str, value| program.write(name, tiny_llama(7).replace(key, value).finish().1);
    write("arch.gguf", "general.architecture", Some(Value::from("mamba9")));
    generate("arch.gguf").fails(1, &["mamba9", "llama", "gemma3"]);
    program.run(&["inspect", "arch.gguf", "--device", "cpu"]).fails(1, &["mamba9", "llama"]);
    write("mute.gguf", "tokenizer.ggml.tokens", None);
    generate("mute.gguf").fails(1, &["mute.gguf", "tokenizer"]);
    write("pre.gguf", "tokenizer.ggml.pre", Some(Value::from("pre9")));
    generate("pre.gguf").fails(1, &["pre9", "smollm"]);
    let merges = Value::Strs(vec!["A Q9".into()]);
    write("merge.gguf", "tokenizer.ggml.merges", Some(merges));
    generate("merge.gguf").fails(1, &["merge.gguf", "Q9"]);
    program.run(&["generate", "A", "--model", "pre.gguf", "--chat"]).fails(1, &["pre9"]);
    program.write("plain.gguf", tiny_llama(7).finish().1);
    let chat = ["generate", "A", "--chat", "--device", "cpu", "--model", "plain.gguf"];
    program.run(&chat).fails(1, &["no chat template"]);
}

#[test]
fn devices_that_are_not_there_say_why() {
    let program = Program::new();
    let generate = |device: &str| program.run(&["generate", "A", "--model", "tiny.gguf", "--device", device]);
    generate("tpu").fails(1, &["tpu", "emulator", "cuda:N"]);
    generate("cuda:77").fails(1, &["kvick:"]);
}

#[test]
fn a_cache_that_cannot_be_written_says_so() {
    let program = Program::new();
    let file = program.write("file", "");
    let mut command = program.command(&["pull", "smollm2-135m"]);
    let run = Run::of(command.env("KVICK_CACHE", file.join("below")).output().unwrap());
    run.fails(1, &["KVICK_CACHE"]);
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let program = Program::with_context(1 << 14);
    let long = ["--max-tokens", "16000", "--ignore-eos"];
    let stream = [&["generate", "ABC", "--model", "tiny.gguf", "--device", "cpu"][..], &long].concat();
    let lines = ["logits", "ABCABC", "--model", "tiny.gguf", "--device", "cpu", "--json"];
    for (args, wait) in [(&stream[..], true), (&lines[..], false)] {
        let mut child = program.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        if wait {
            reader.read_exact(&mut [0; 4]).unwrap();
        }
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn ctrl_c_is_130_and_what_was_printed_stays() {
    let program = Program::with_context(1 << 14);
    let args = ["generate", "ABC", "--model", "tiny.gguf", "--device", "cpu", "--max-tokens", "16000", "--ignore-eos"];
    let mut child = program.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut [0; 8]).unwrap();
    interrupt(&child);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
}

#[test]
fn bench_counts_what_it_measures() {
    let program = Program::new();
    let bench = |cache: &str| {
        let args = ["--prompt-tokens", "20", "--tokens", "3", "--batch", "2", "--kv-cache", cache, "--json"];
        program.model("bench", &args).json().remove(0)
    };
    for (cache, on) in [("on", true), ("off", false)] {
        let result = bench(cache);
        assert_eq!((&result["kv_cache"], &result["emulated"]), (&json!(on), &json!(false)));
        assert!(result["prefill_tokens_per_s"].as_f64().unwrap() > 0.0, "{result}");
        assert!(result["peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{result}");
        assert_eq!(result["launches_per_token"], Json::Null, "cpu launches nothing");
    }
    program.model("bench", &["--tokens", "0"]).fails(1, &["nothing to measure"]);
}

#[test]
fn tiers_that_cannot_work_are_refused_with_their_cure() {
    let program = Program::new();
    let refused = |code: i32, args: &[&str], words: &[&str]| {
        let run = program.model("generate", &[&["ABC"][..], args].concat());
        assert!(!run.stderr.contains("hunter2"), "a credential in {}", run.stderr);
        run.fails(code, words);
    };
    refused(2, &["--kv-tier", "hots=1GiB"], &["--kv-tier", "host=SIZE"]);
    refused(2, &["--kv-tier", "rediss=redis://:hunter2@h"], &["redis=URL"]);
    refused(2, &["--kv-tier", "disk=folder"], &["disk=PATH,10GiB"]);
    refused(1, &["--kv-tier", "host=100"], &["a page of this model takes"]);
    refused(1, &["--kv-tier", "host=9000TiB"], &["of memory"]);
    refused(1, &["--kv-tier", "disk=tiny.gguf,1GB"], &["tiny.gguf", "--kv-tier disk="]);
    refused(1, &["--kv-tier", "host=1MB", "--kv-tier", "host=2MB"], &["two tiers on host"]);
    refused(1, &["--kv-tier", "host=1MB", "--no-prefix-cache"], &["--no-prefix-cache", "drop one"]);
    refused(1, &["--kv-verify", "--no-prefix-cache"], &["--kv-verify", "drop one"]);
    refused(1, &["--kv-verify", "--kv-verify-every", "0"], &["--kv-verify-every", "at least 1"]);
    refused(1, &["--kv-tier", "host=1MB", "--kv-store-secret", "nowhere"], &["--kv-store-secret nowhere"]);
    refused(1, &["--kv-tier", "redis=redis://:hunter2@127.0.0.1:1"], &["redis"]);
    let empty = program.write("empty", " \n");
    refused(1, &["--kv-tier", "host=1MB", "--kv-store-secret", empty.to_str().unwrap()], &["is empty"]);
}

#[test]
fn a_disk_tier_keeps_what_another_process_computed() {
    let program = Program::new();
    let secret = program.write("secret", "correct horse");
    let secret = secret.to_str().unwrap();
    let tier =
        ["--kv-tier", "disk=pages,1MB", "--kv-store-secret", secret, "--json", "--max-tokens", "3", "--ignore-eos"];
    let answer = |more: &[&str]| {
        let text = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ";
        program.model("generate", &[&[text][..], &tier, more].concat()).json()[0]["ids"].clone()
    };
    let first = answer(&[]);
    let files = std::fs::read_dir(program.path("pages")).unwrap().count();
    assert_eq!(files, 1, "one folder of one model");
    assert_eq!(answer(&[]), first);
    assert_eq!(answer(&["--kv-verify"]), first);
}

#[test]
fn an_exact_answer_takes_nothing_that_was_restored() {
    let program = Program::new();
    // Heads of 64, which can be packed.
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny/llama");
    let tier = ["--kv-tier", "disk=pages,1MB,dtype=int8,error=9", "--json", "--max-tokens", "3", "--ignore-eos"];
    let answer = |more: &[&str]| {
        let text = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let args = [&["generate", "--model", model, "--device", "cpu", text][..], &tier, more].concat();
        program.run(&args).json().remove(0)
    };
    let first = answer(&[]);
    let exact = answer(&["--kv-exact"]);
    assert_eq!((&exact["cached_tokens"], &exact["ids"]), (&json!(0), &first["ids"]));
    let restored = answer(&[])["cached_tokens"].as_u64().unwrap();
    assert!(restored > 0, "who does not ask for that finds them");
}
