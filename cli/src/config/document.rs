//! A configuration as it is written: keys with their values and lines, in TOML (1.1) or JSON (RFC
//! 8259).

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The text of a file, and what it is written in.
pub(super) struct Document {
    text: String,
    language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Toml,
    Json,
}

/// A key and what it is set to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: Value,
}

/// What a key can be set to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// In decimal, with its sign.
    Integer(String),
    Number(String),
    Flag(bool),
    List(Vec<Value>),
    /// What no option takes, by its name.
    Other(&'static str),
}

impl Value {
    /// What it is, as errors name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

/// The text is not what it is written in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) what: String,
}

impl Document {
    /// The language is told by the file's name, or by its first character: an object of JSON
    /// begins with a brace, with which nothing of TOML does.
    pub(super) fn new(path: &Path, text: String) -> Self {
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        let extension = path
            .extension()
            .map(|extension| extension.to_ascii_lowercase());
        let language = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("json") => Language::Json,
            Some("toml") => Language::Toml,
            _ if text.trim_start().starts_with('{') => Language::Json,
            _ => Language::Toml,
        };
        Self { text, language }
    }

    /// The keys that it sets, in the order of TOML's names or of JSON's text.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Malformed> {
        match self.language {
            Language::Toml => self.toml(),
            Language::Json => self.json(),
        }
    }

    fn toml(&self) -> Result<Vec<Entry>, Malformed> {
        let table = DeTable::parse(&self.text).map_err(|error| Malformed {
            line: self.line(error.span().map_or(0, |span| span.start)),
            what: format!("this is no TOML: {}", error.message()),
        })?;
        let entries = table.into_inner().into_iter();
        Ok(entries
            .map(|(key, value)| Entry {
                line: self.line(key.span().start),
                key: key.into_inner().into_owned(),
                value: of_toml(value.into_inner()),
            })
            .collect())
    }

    fn json(&self) -> Result<Vec<Entry>, Malformed> {
        let malformed = |error: &serde_json::Error| {
            let text = error.to_string();
            // Its place is told in front.
            let what = text.split(" at line ").next().unwrap_or(&text);
            Malformed {
                line: error.line(),
                what: format!("this is no JSON: {what}"),
            }
        };
        let mut reader = serde_json::Deserializer::from_str(&self.text);
        let members = reader.deserialize_map(Members);
        let members = members.and_then(|members| reader.end().map(|()| members));
        let members = members.map_err(|error| malformed(&error))?;
        let entries = members.into_iter().map(|(key, raw)| Entry {
            line: self.line(self.offset(raw.get())),
            key,
            value: of_json(raw),
        });
        Ok(entries.collect())
    }

    /// Where `part` is in the text.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr())
    }

    /// The number of the line that the byte at `offset` is in.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|&&byte| byte == b'\n').count()
    }
}

fn of_toml(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number.to_string()),
            Err(_) => Value::Other("a number of more than 128 bits"),
        },
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Array(items) => {
            let items = items.into_iter();
            Value::List(items.map(|item| of_toml(item.into_inner())).collect())
        }
        DeValue::Table(_) => Value::Other("a table"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
    }
}

/// `raw` was read once already, so it is JSON.
fn of_json(raw: &RawValue) -> Value {
    let value = serde_json::from_str(raw.get());
    value.map_or(Value::Other("nothing that can be read"), of_json_value)
}

fn of_json_value(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Number(number) if number.is_f64() => Value::Number(number.to_string()),
        serde_json::Value::Number(number) => Value::Integer(number.to_string()),
        serde_json::Value::Bool(flag) => Value::Flag(flag),
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(of_json_value).collect())
        }
        serde_json::Value::Object(_) => Value::Other("an object"),
        serde_json::Value::Null => Value::Other("null"),
    }
}

/// The members of an object, each as often as it is there.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
