//! `--cache-report`: what prompts found in the KV cache, and why not more.
use super::output;
use kvick::CacheStats;
use kvick::kv::curve::CurveReport;
use serde_json::json;

/// A table on stderr, or an object on stdout.
pub fn print(stats: &CacheStats, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&json!({ "cache": stats }));
    }
    output::note(&table(stats));
    Ok(())
}

fn table(stats: &CacheStats) -> String {
    let mut lines = vec![format!("KV cache, tokens of {} prompts", stats.requests)];
    let mut line = |name: &str, tokens: u64, more: String| lines.push(format!("  {name:<38} {tokens:>10}{more}"));
    let part = |tokens: u64| match stats.tokens {
        0 => String::new(),
        all => format!("  {:.1} %", 100.0 * tokens as f64 / all as f64),
    };
    line("asked for", stats.tokens, String::new());
    for tier in &stats.tiers {
        let moved = match (tier.bytes_up, tier.bytes_down) {
            (0, 0) => String::new(),
            (up, down) => format!(", {} came up, {} went down", size(up), size(down)),
        };
        line(&format!("found, {}", tier.name), tier.tokens, part(tier.tokens) + &moved);
    }
    if stats.lossy_tokens > 0 {
        line("of these, restored from quantised pages", stats.lossy_tokens, part(stats.lossy_tokens));
    }
    if stats.copied_bytes > 0 {
        line(
            "of these, in pages that were copied",
            stats.copied_tokens,
            format!("  {} copied", size(stats.copied_bytes)),
        );
    }
    line("missed", stats.missed.tokens(), part(stats.missed.tokens()));
    for (reason, tokens) in stats.missed.by_reason().into_iter().filter(|(_, tokens)| *tokens > 0) {
        line(&format!("  {reason}"), tokens, part(tokens));
    }
    if stats.forked_tokens > 0 {
        line("shared by further samples", stats.forked_tokens, String::new());
    }
    let time = stats.saved_seconds.filter(|_| stats.saved_tokens > 0);
    line("not computed", stats.saved_tokens, time.map_or(String::new(), |s| format!("  about {s:.2} s saved")));
    if stats.other_salt_tokens > 0 {
        line("cached under more than one salt", stats.other_salt_tokens, String::new());
    }
    if stats.verified.pages > 0 {
        line(
            "pages computed again to compare",
            stats.verified.pages,
            format!("  {} differed", stats.verified.differed),
        );
    }
    if let Some(curve) = stats.curve.as_ref().filter(|curve| curve.sampled > 0) {
        lines.push(what_if(curve));
    }
    lines.join("\n")
}

/// Pages that would be found with other amounts of memory, and with other policies.
fn what_if(curve: &CurveReport) -> String {
    let ours = curve.points.iter().filter(|what| what.policy == curve.actual.policy);
    let others: Vec<String> = ours.map(|what| format!("{} {:.1} %", what.pages, what.hit_percent)).collect();
    let regret: Vec<String> = curve.regret.iter().map(|(policy, points)| format!("{policy} {points:+.1}")).collect();
    format!(
        "  pages found with as many KV pages: {}\n  points more or less with another policy: {}",
        others.join(", "),
        regret.join(", ")
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x2800 => format!("{bytes} bytes"),
        0x2800..0xa0_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
