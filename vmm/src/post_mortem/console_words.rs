//! What a Linux command line says about the console (`Documentation/admin-guide/
//! kernel-parameters.txt`, `Documentation/admin-guide/serial-console.rst`).

use firstlight_boot::Platform;

/// What the serial port of a machine is called.
struct Port {
    /// By the driver.
    name: &'static str,
    /// Other names that `console=` may have for it.
    aliases: &'static [&'static str],
    /// What makes it an early console.
    early: &'static str,
    /// Whether a device tree tells the kernel of it.
    is_told: bool,
}

impl Port {
    fn of(platform: &Platform) -> Self {
        match platform {
            Platform::Pc(_) => Self {
                name: "ttyS0",
                aliases: &["uart"],
                early: "earlyprintk=ttyS0",
                is_told: false,
            },
            Platform::VirtArm64(_) => Self {
                name: "ttyAMA0",
                aliases: &["pl011"],
                early: "earlycon=pl011,0x9000000",
                is_told: true,
            },
            Platform::VirtRiscv64(_) => Self {
                name: "ttyS0",
                aliases: &["uart", "hvc0"],
                early: "earlycon=sbi",
                is_told: true,
            },
        }
    }

    fn is_meant_by(&self, word: &str) -> bool {
        let names = self.aliases.iter().chain([&self.name]);
        word.strip_prefix("console=")
            .is_some_and(|console| names.into_iter().any(|name| console.starts_with(name)))
    }
}

/// What the words mean on a machine whose only console is its first serial port, a sentence each.
pub(super) fn explain(cmdline: &str, platform: &Platform) -> Vec<String> {
    let port = Port::of(platform);
    let words: Vec<&str> = cmdline.split_ascii_whitespace().collect();
    let mut sentences = vec![consoles(&words, &port)];
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
        format!(
            "no early console: add {} to see messages from before the console driver",
            port.early
        )
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

fn consoles(words: &[&str], port: &Port) -> String {
    let name = port.name;
    let consoles: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| word.starts_with("console="))
        .collect();
    let serial = consoles.iter().any(|word| port.is_meant_by(word));
    match consoles.as_slice() {
        [] if port.is_told => {
            format!("no console=: the kernel takes what the device tree names, {name}")
        }
        [] => format!(
            "no console= at all: a kernel without it prints to the VGA screen that this machine \
             does not have; add console={name}"
        ),
        [last] | [.., last] if serial => {
            let note = if port.is_meant_by(last) {
                ""
            } else {
                " (init's own output goes to the last)"
            };
            format!("the kernel was told {}{note}", consoles.join(" "))
        }
        _ => format!(
            "the kernel was told {}, none of which this machine has; add console={name}",
            consoles.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests;
