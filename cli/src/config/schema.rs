//! The schema of configurations (JSON Schema, draft 2020-12), made from what clap knows of `boot`.

use super::option::{self, Kind};
use super::{BOOT, command};
use crate::failure::Failure;
use crate::json::to_text;
use crate::output;
use clap::Arg;
use serde_json::{Map, Value, json};

/// The key by which a file tells editors its schema.
pub(super) const KEY: &str = "$schema";

const TITLE: &str = "Configuration of a Firstlight guest";

/// Prints it.
pub(crate) fn print() -> Result<(), Failure> {
    output::print(text())
}

fn text() -> String {
    let mut command = command();
    command.build();
    let boot = command.find_subcommand(BOOT).expect("it is there");
    let mut properties = Map::new();
    properties.insert(KEY.to_owned(), json!({ "type": "string" }));
    for arg in option::all(boot) {
        let long = arg.get_long().unwrap_or_default();
        properties.insert(long.to_owned(), property(arg));
    }
    to_text(&json!({
        KEY: "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": "The options of firstlight boot by their long names",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }))
}

fn property(arg: &Arg) -> Value {
    let mut property = Map::new();
    let help = arg.get_long_help().or(arg.get_help());
    if let Some(help) = help {
        property.insert("description".to_owned(), help.to_string().into());
    }
    let kind = Kind::of(arg);
    let one = taken(&kind);
    if option::is_list(arg) {
        let list = json!({ "type": "array", "items": one });
        property.insert("anyOf".to_owned(), json!([one, list]));
    } else {
        property.extend(one);
    }
    let default = arg.get_default_values().first();
    if let Some(default) = default.filter(|_| kind != Kind::Flag) {
        let default = default.to_string_lossy();
        let number = serde_json::from_str(&default).ok().filter(Value::is_number);
        let default = match (&kind, number) {
            (Kind::Integer | Kind::Number, Some(number)) => number,
            _ => default.into(),
        };
        property.insert("default".to_owned(), default);
    }
    property.into()
}

/// What one value of a kind is.
fn taken(kind: &Kind) -> Map<String, Value> {
    let schema = match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
        Kind::Number => json!({ "type": "number", "minimum": 0 }),
        Kind::Size => json!({ "type": ["integer", "string"], "minimum": 0 }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(names) => {
            let numbers = names.iter().filter_map(|name| name.parse::<u64>().ok());
            let numbers = numbers.map(Value::from);
            let names = names.iter().map(|name| Value::from(name.as_str()));
            json!({ "enum": names.chain(numbers).collect::<Vec<_>>() })
        }
    };
    match schema {
        Value::Object(schema) => schema,
        _ => unreachable!("all of these are objects"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::{env, fs};

    /// With `FIRSTLIGHT_BLESS` set the file is written instead.
    #[test]
    fn the_published_schema_is_that_of_the_options() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("../docs/config.schema.json");
        if env::var_os("FIRSTLIGHT_BLESS").is_some() {
            fs::write(&path, text()).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == text(),
            "docs/config.schema.json is not of these options; FIRSTLIGHT_BLESS=1 writes it"
        );
    }

    #[test]
    fn every_default_is_what_its_option_takes() {
        let schema: Value = serde_json::from_str(&text()).unwrap();
        let of = |key: &str| schema["properties"][key].clone();
        assert_eq!(of("memory")["default"], "512M");
        assert_eq!(of("cpus")["default"], 1);
        assert_eq!(of("timeout")["type"], "number");
        assert_eq!(of("no-reboot")["type"], "boolean");
        assert_eq!(of("gic")["enum"], json!(["2", "3", 2, 3]));
        assert_eq!(of("module")["anyOf"][1]["items"]["type"], "string");
        assert!(schema["properties"].get("config").is_none());
    }
}
