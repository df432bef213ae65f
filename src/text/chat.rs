//! Chat templates: Jinja, as Hugging Face's tokenizers render it.
use super::control::Mark;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

/// Instructions a template may execute; a long conversation needs thousands.
const FUEL: u64 = 50_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// The conversation as the template writes it, with the spellings of control tokens in messages broken by the mark.
pub(super) fn render(tokenizer: &Tokenizer, messages: &[Message]) -> Result<(String, Mark)> {
    let template = tokenizer.template.as_deref().ok_or_else(|| {
        Error::Request("this model has no chat template; give the prompt as plain text, without --chat".into())
    })?;
    let texts = messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
    if let Some(spelling) = texts.clone().find_map(|text| tokenizer.control.unbreakable(text)) {
        return Err(Error::Request(format!("a message contains {spelling:?}, which is a control token of this model")));
    }
    let mark = Mark::absent_from(texts.chain([template]))?;
    let disarm = |text: &str| tokenizer.control.disarm(text, mark).into_owned();
    let messages: Vec<Message> = messages.iter().map(|m| Message::new(disarm(&m.role), disarm(&m.content))).collect();
    let mut env = environment();
    env.add_template("chat", template).map_err(|e| bad_template(tokenizer, &e))?;
    let context = context! {
        messages,
        add_generation_prompt => true,
        bos_token => tokenizer.spelling(tokenizer.bos),
        eos_token => tokenizer.spelling(tokenizer.eos),
    };
    match env.get_template("chat").and_then(|t| t.render(context)) {
        Ok(text) => Ok((text, mark)),
        Err(e) if e.kind() == ErrorKind::InvalidOperation && e.detail().is_some_and(|d| d.starts_with(REFUSED)) => {
            Err(Error::Request(e.detail().unwrap_or_default().to_string()))
        }
        Err(e) => Err(bad_template(tokenizer, &e)),
    }
}

const REFUSED: &str = "the model's chat template refuses the conversation: ";

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_function("raise_exception", |message: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{message}")))
    });
    // Templates write JSON for the model, not for a browser: no escapes of markup.
    env.add_filter("tojson", |value: minijinja::Value| {
        serde_json::to_string(&value)
            .map(minijinja::Value::from_safe_string)
            .map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
    });
    env
}

fn bad_template(tokenizer: &Tokenizer, e: &minijinja::Error) -> Error {
    Error::model_file(&tokenizer.origin, format!("its chat template fails: {e}"))
}
