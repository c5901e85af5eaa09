//! The cache of unpacked images: how `plan` and `boot` use it, and `firstlight cache`.

use crate::args::{CacheArgs, CacheVerb, GuestArgs};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, printable};
use crate::file::InputFile;
use crate::kernel;
use crate::output;
use crate::progress::Progress;
use firstlight_boot::Unpack;
use firstlight_boot::draw::Size;
use firstlight_load::{Cache, Entry, Kind, Layer, Opened};
use std::error::Error;
use std::time::SystemTime;

/// The user's cache, or none where there can be none.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Option<Cache>,
    progress: Progress,
}

impl Store {
    /// Opens the cache. Without one everything works, only slower; why there is none is said where
    /// steps are.
    pub(crate) fn open(progress: Progress) -> Self {
        let cache = Cache::of_user();
        if let Err(error) = &cache {
            progress.say(&format!("nothing is kept unpacked: {}", chain(error)));
        }
        Self {
            cache: cache.ok(),
            progress,
        }
    }

    /// The layers of the kernel in `file`: all of them, or those that a guest needs which unpacks
    /// by itself.
    pub(crate) fn kernel(&self, file: &InputFile, args: &GuestArgs) -> Result<Opened, Failure> {
        let take_apart = || {
            let bytes = kernel::read(file, self.progress)?;
            kernel::layers(file, bytes, args, self.progress)
        };
        match (args.unpack(), args.profile) {
            (Unpack::Host, 0) => self.get(Kind::Image, file, take_apart),
            // One profile is kept of each file; and what the guest unpacks is in the file itself.
            (Unpack::Host | Unpack::Guest, _) => take_apart().map(Opened::without_cache),
        }
    }

    /// Where what is done is told.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// What `file` is taken apart to, kept from the last time or by `take_apart`.
    pub(crate) fn get(
        &self,
        kind: Kind,
        file: &InputFile,
        take_apart: impl FnOnce() -> Result<Vec<Layer>, Failure>,
    ) -> Result<Opened, Failure> {
        let Some(cache) = &self.cache else {
            return take_apart().map(Opened::without_cache);
        };
        let opened = cache.get(kind, file.file(), file.path(), take_apart)?;
        let shown = file.path().display();
        if let Some(note) = &opened.note {
            let why = chain(note);
            self.progress
                .say(&format!("{shown} is not kept unpacked: {why}"));
        } else if opened.hit {
            self.progress.say(&format!("{shown} was unpacked before"));
        }
        Ok(opened)
    }
}

/// The error and what caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    printable(&text).to_string()
}

/// `firstlight cache`: shows what is kept, or removes it.
pub(crate) fn cache(args: &CacheArgs) -> Result<(), Failure> {
    let failed = |error| Failure::because(ExitStatus::Host, "cannot use the cache", &error);
    let cache = Cache::of_user().map_err(failed)?;
    let text = match args.verb {
        CacheVerb::List => list(&cache, &cache.list().map_err(failed)?),
        CacheVerb::Clear => {
            let cleared = cache.clear().map_err(failed)?;
            format!(
                "{} removed, {} freed\n",
                count(cleared.entries),
                Size(cleared.on_disk)
            )
        }
    };
    output::print(&text)
}

fn list(cache: &Cache, entries: &[Entry]) -> String {
    let all: u64 = entries.iter().map(|entry| entry.on_disk).sum();
    let mut text = format!(
        "{}: {}, {} of {}\n",
        printable(&cache.folder().to_string_lossy()),
        count(u64::try_from(entries.len()).unwrap_or(u64::MAX)),
        Size(all),
        Size(Cache::BOUND)
    );
    for entry in entries {
        let kind = match entry.kind {
            Kind::Image => "kernel",
            Kind::Initrd => "initrd",
        };
        let stale = if entry.current {
            ""
        } else {
            "  (has changed or is gone)"
        };
        text.push_str(&format!(
            "  {kind}  {:>10} on disk, {:>10} in all, used {:<14} {}{stale}\n",
            Size(entry.on_disk).to_string(),
            Size(entry.len).to_string(),
            age(entry.used, SystemTime::now()),
            printable(&entry.source.to_string_lossy())
        ));
    }
    text
}

fn count(entries: u64) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        many => format!("{many} entries"),
    }
}

/// How long ago something was, in the largest unit that there is one of.
fn age(then: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(then).map_or(0, |age| age.as_secs());
    let units = [("day", 24 * 60 * 60), ("hour", 60 * 60), ("minute", 60)];
    let unit = units.iter().find(|(_, length)| seconds >= *length);
    unit.map_or("just now".to_owned(), |(name, length)| {
        match seconds / length {
            1 => format!("1 {name} ago"),
            many => format!("{many} {name}s ago"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        let then = SystemTime::UNIX_EPOCH;
        let after = |seconds| age(then, then + Duration::from_secs(seconds));
        assert_eq!(after(59), "just now");
        assert_eq!(after(60), "1 minute ago");
        assert_eq!(after(3 * 60 * 60 + 1), "3 hours ago");
        assert_eq!(after(49 * 60 * 60), "2 days ago");
        assert_eq!(age(then + Duration::from_secs(5), then), "just now");
    }
}
