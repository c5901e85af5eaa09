//! Manual pages and shell completions, made from the definition of the command line.

use crate::args::command;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::output::print;
use clap_complete::Shell;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "firstlight", &mut text);
    print(text)
}

/// Prints the manual page of `verb`, or the command's own.
pub(crate) fn page(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = command();
    command.build();
    let page = match verb {
        None => command,
        Some(verb) => {
            let known = command.find_subcommand(verb).cloned();
            known.ok_or_else(|| {
                Failure::new(ExitStatus::Usage, format!("there is no command {verb:?}"))
            })?
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| {
            Failure::because(ExitStatus::Host, "cannot make the manual page", &error)
        })?;
    print(text)
}
