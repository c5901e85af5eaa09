//! What an option takes from a file, by what clap knows of it.

use super::document::Value;
use super::place;
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::path::Path;

/// The options of `boot` that a file can set.
pub(super) fn all(boot: &Command) -> impl Iterator<Item = &Arg> {
    // A file does not ask for help, and does not name another.
    let excepted = ["help", "version", "config"];
    boot.get_arguments().filter(move |arg| {
        let long = arg.get_long();
        long.is_some_and(|long| !excepted.contains(&long)) && !arg.is_hide_set()
    })
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whether something is to be.
    Flag,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A number of bytes or an address: a whole number, or a string with a unit.
    Size,
    /// One of these.
    Choice(Vec<String>),
    /// Anything else.
    Text,
}

impl Kind {
    /// The kind of what `arg` takes, once or each time: said by the name that the help has for it.
    pub(super) fn of(arg: &Arg) -> Self {
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return Self::Flag;
        }
        let values = arg.get_possible_values();
        if !values.is_empty() {
            let names = values.iter().map(|value| value.get_name().to_owned());
            return Self::Choice(names.collect());
        }
        match value_name(arg) {
            "N" => Self::Integer,
            "SECONDS" => Self::Number,
            "SIZE" | "ADDRESS" => Self::Size,
            _ => Self::Text,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Size => "a whole number, or a string",
            Self::Choice(_) | Self::Text => "a string",
        }
    }

    /// The word for `value`, where it is of this kind.
    fn word(&self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Integer | Self::Number | Self::Size, Value::Integer(text))
            | (Self::Number, Value::Number(text))
            | (Self::Size | Self::Choice(_) | Self::Text, Value::Text(text)) => Some(text.clone()),
            // The version of something, for example.
            (Self::Choice(values), Value::Integer(text)) if values.contains(text) => {
                Some(text.clone())
            }
            _ => None,
        }
    }
}

/// Whether an option may be given several times, and so be a list.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// How the help names what `arg` takes.
pub(super) fn value_name(arg: &Arg) -> &str {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map_or("", |name| name.as_str())
}

/// The words that set `arg` to `value`, whose relative paths begin at `folder`.
pub(super) fn words(arg: &Arg, folder: &Path, value: &Value) -> Result<Vec<OsString>, String> {
    let long = arg.get_long().unwrap_or_default();
    let kind = Kind::of(arg);
    let wrong = |value: &Value| {
        let list = if is_list(arg) {
            ", or a list of such"
        } else {
            ""
        };
        format!(
            "{long:?} wants {}{list}, and this is {}",
            kind.name(),
            value.kind()
        )
    };
    let word = |value: &Value| {
        let text = kind.word(value).ok_or_else(|| wrong(value))?;
        let text = match kind {
            Kind::Text => place::anchored(folder, value_name(arg), &text),
            _ => OsString::from(text),
        };
        let mut word = OsString::from(format!("--{long}="));
        word.push(text);
        Ok(word)
    };
    match (&kind, value) {
        (Kind::Flag, Value::Flag(true)) => Ok(vec![format!("--{long}").into()]),
        (Kind::Flag, Value::Flag(false)) => Ok(Vec::new()),
        (_, Value::List(items)) if is_list(arg) => items.iter().map(word).collect(),
        _ => Ok(vec![word(value)?]),
    }
}
