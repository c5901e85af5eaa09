//! `--config FILE`: options from a file, beneath those of the command line (`docs/config.md`).
//!
//! The keys of the file are the long names of what `boot` takes, and what clap knows of an option
//! is all that is known of its key: how it is checked here, and what the [schema] says of it. The
//! file becomes words that stand in front of those that were typed.

mod document;
mod option;
mod place;
pub(crate) mod schema;

use crate::args::{Cli, command};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::file::InputFile;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches, Parser};
use document::{Document, Entry};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// Far more than there are options for.
const LONGEST: u64 = 1 << 20;

/// The command whose options a file can have. Other commands take those of them that they know.
const BOOT: &str = "boot";

/// Why what was typed cannot be used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The words themselves.
    Usage(clap::Error),
    /// The file they name.
    File(Failure),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::File(failure)
    }
}

/// What `words` say, with what the file says that they name.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Cli, Refusal> {
    let matches = with_kernel_elsewhere(command()).try_get_matches_from(&words)?;
    let typed = Cli::from_arg_matches(&matches)?;
    let Some(path) = typed.verb.config() else {
        return Ok(typed.parsed());
    };
    let options = read(path)?;
    let cli = Cli::try_parse_from(spliced(words, &matches, options))?;
    Ok(cli.parsed())
}

/// The command where the kernel may be named by the file.
fn with_kernel_elsewhere(command: Command) -> Command {
    command.mut_subcommands(|verb| {
        if verb.get_arguments().all(|arg| arg.get_id() != "config") {
            return verb;
        }
        // Each keeps its place: `mut_arg` would make the kernel the last of what has no name.
        verb.mut_args(|arg| match arg.get_id() == "file" {
            true => arg.required_unless_present("config"),
            false => arg,
        })
    })
}

/// The words of a file, by the option that they are for.
type Options = BTreeMap<String, Vec<OsString>>;

/// `words` with those of the file in front, of the options that the command knows and that were
/// not typed, nor others that exclude them.
fn spliced(words: Vec<OsString>, matches: &ArgMatches, options: Options) -> Vec<OsString> {
    let (name, given) = matches.subcommand().expect("a file is named to a command");
    let mut command = command();
    command.build();
    let verb = command.find_subcommand(name).expect("clap has found it");
    let typed: Vec<&Arg> = verb
        .get_arguments()
        .filter(|arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        .collect();
    let excludes = |one: &Arg, other: &Arg| {
        let conflicts = verb.get_arg_conflicts_with(one);
        conflicts.iter().any(|arg| arg.get_id() == other.get_id())
    };
    let counts = |key: &str| {
        let arg = verb.get_arguments().find(|arg| arg.get_long() == Some(key));
        arg.is_some_and(|arg| {
            !typed.iter().any(|typed| {
                typed.get_id() == arg.get_id() || excludes(typed, arg) || excludes(arg, typed)
            })
        })
    };
    let options = options.into_iter().filter(|(key, _)| counts(key));
    let options = options.flat_map(|(_, words)| words);
    let at = words.iter().position(|word| word == name);
    let at = at.map_or(words.len(), |at| at + 1);
    let mut words = words;
    words.splice(at..at, options);
    words
}

/// The options that the file at `path` sets.
fn read(path: &Path) -> Result<Options, Failure> {
    let document = open(path)?;
    let wrong = |line: usize, what: &str| {
        let shown = path.display();
        Failure::new(ExitStatus::Usage, format!("{shown}:{line}: {what}"))
    };
    let entries = document.entries();
    let entries = entries.map_err(|error| wrong(error.line, &error.what))?;
    let mut checker = Checker::new();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut options = Options::new();
    let mut lines = BTreeMap::new();
    for entry in &entries {
        let words = checker
            .words(folder, entry)
            .map_err(|what| wrong(entry.line, &what))?;
        if let Some(before) = lines.insert(&entry.key, entry.line) {
            let what = format!("{:?} was set in line {before} already", entry.key);
            return Err(wrong(entry.line, &what));
        }
        options.insert(entry.key.clone(), words);
    }
    Ok(options)
}

fn open(path: &Path) -> Result<Document, Failure> {
    let file = InputFile::open(path, "configuration").map_err(|failure| {
        // What is no file at all is no image that cannot be booted here, but a wrong option.
        match failure.status() {
            ExitStatus::Image => failure.with_status(ExitStatus::Usage),
            _ => failure,
        }
    })?;
    let shown = path.display();
    let wrong = |what: String| Failure::new(ExitStatus::Usage, what);
    if file.len() > LONGEST {
        let len = file.len();
        return Err(wrong(format!(
            "{shown} has {len} bytes, more than the {LONGEST} of any configuration"
        )));
    }
    let text = String::from_utf8(file.read()?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        wrong(format!("{shown} is no text: byte {at} is no UTF-8"))
    })?;
    Ok(Document::new(path, text))
}

/// What checks the entries of a file.
struct Checker {
    /// The command, where the kernel need not be named.
    alone: Command,
    /// The same with all of its arguments.
    built: Command,
}

impl Checker {
    fn new() -> Self {
        let mut built = command();
        built.build();
        Self {
            alone: with_kernel_elsewhere(command()),
            built,
        }
    }

    fn options(&self) -> impl Iterator<Item = &Arg> {
        option::all(self.built.find_subcommand(BOOT).expect("it is there"))
    }

    /// The words that `entry` stands for. Of the key `$schema`, which is for editors, there are
    /// none.
    fn words(&mut self, folder: &Path, entry: &Entry) -> Result<Vec<OsString>, String> {
        if entry.key == schema::KEY {
            return Ok(Vec::new());
        }
        let found = self
            .options()
            .find(|arg| arg.get_long() == Some(&entry.key));
        let Some(arg) = found else {
            return Err(self.unknown(&entry.key));
        };
        let words = option::words(arg, folder, &entry.value)?;
        self.try_words(words.clone())
            .map_err(|error| told(&error))?;
        Ok(words)
    }

    /// The options' own check of their values.
    fn try_words(&mut self, words: Vec<OsString>) -> Result<(), clap::Error> {
        let before = ["firstlight", BOOT, "--config=file"].map(OsString::from);
        let words = before.into_iter().chain(words);
        self.alone.try_get_matches_from_mut(words).map(|_| ())
    }

    /// There is no such key, but there may be one that looks like it.
    fn unknown(&mut self, key: &str) -> String {
        let refused = self.try_words(vec![format!("--{key}").into()]);
        let similar = match refused
            .as_ref()
            .map_err(|error| error.get(ContextKind::SuggestedArg))
        {
            Err(Some(ContextValue::String(similar))) => similar.trim_start_matches('-'),
            _ => "",
        };
        let hint = if self.options().any(|arg| arg.get_long() == Some(similar)) {
            format!("; did you mean {similar:?}?")
        } else {
            String::new()
        };
        format!("there is no option {key:?}{hint}")
    }
}

/// What clap says, without what is meant for people at a prompt.
fn told(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\nFor more information");
    let end = end.or_else(|| text.find("\n\nUsage:"));
    text[..end.unwrap_or(text.len())].trim_end().to_owned()
}

#[cfg(test)]
mod tests;
