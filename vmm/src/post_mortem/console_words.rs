//! What a Linux command line says about the console (`Documentation/admin-guide/
//! kernel-parameters.txt`, `Documentation/admin-guide/serial-console.rst`).

/// What the words mean on a machine whose only console is its first serial port, a sentence each.
pub(super) fn explain(cmdline: &str) -> Vec<String> {
    let words: Vec<&str> = cmdline.split_ascii_whitespace().collect();
    let mut sentences = vec![consoles(&words)];
    let early: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| {
            ["earlycon", "earlyprintk"]
                .iter()
                .any(|name| *word == *name || word.starts_with(&format!("{name}=")))
        })
        .collect();
    sentences.push(if early.is_empty() {
        "no early console: add earlyprintk=ttyS0 to see messages from before the console driver"
            .to_owned()
    } else {
        format!("early console: {}", early.join(" "))
    });
    if let Some(hiding) = words
        .iter()
        .find(|word| **word == "quiet" || word.starts_with("loglevel="))
    {
        sentences.push(format!("{hiding} hides most messages: try without it"));
    }
    sentences
}

fn consoles(words: &[&str]) -> String {
    let consoles: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| word.starts_with("console="))
        .collect();
    let serial = consoles
        .iter()
        .any(|word| word.starts_with("console=ttyS0") || word.starts_with("console=uart"));
    match consoles.as_slice() {
        [] => "no console= at all: a kernel without it prints to the VGA screen that this machine \
               does not have; add console=ttyS0"
            .to_owned(),
        [last] | [.., last] if serial => {
            let note = if last.starts_with("console=ttyS0") || last.starts_with("console=uart") {
                ""
            } else {
                " (init's own output goes to the last)"
            };
            format!("the kernel was told {}{note}", consoles.join(" "))
        }
        _ => format!(
            "the kernel was told {}, none of which this machine has; add console=ttyS0",
            consoles.join(" ")
        ),
    }
}
