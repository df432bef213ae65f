//! `kvick tokenize`: token ids of a text, with the model's own bos rule.
use super::model::{ModelArgs, read_text, spelling};
use super::output::{self, Usage};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text
    text: Option<String>,
    /// A file with the text (- is stdin)
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Read the spellings of control tokens as these tokens
    #[arg(long)]
    special: bool,
    /// {"ids":[..]}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let text = match (args.text, &args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => read_text(file)?,
        (None, None) => return Err(Usage("give a text, or a file with --file FILE".into()).into()),
    };
    let tokenizer = args.model.tokenizer()?;
    let ids = tokenizer.encode(&text, spelling(args.special))?;
    if args.json {
        return output::json(&serde_json::json!({ "ids": ids }));
    }
    let mut table = String::new();
    for id in ids {
        table.push_str(&format!("{id:>8}  {:?}\n", tokenizer.show(id)));
    }
    output::print(&table)
}
