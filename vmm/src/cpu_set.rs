//! Sets of processors, written as Linux writes them (`Documentation/admin-guide/cputopology.rst`).

use std::collections::{BTreeSet, btree_set};
use std::fmt;
use std::str::FromStr;

/// Numbers of processors, the host's or the guest's: `0-3,8` as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// The first number that no processor has: what Linux can be built for (`CONFIG_NR_CPUS`).
    pub const LIMIT: u32 = 8192;

    /// Whether `cpu` is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, ascending.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }
}

/// The numbers of a [`CpuSet`], ascending.
#[derive(Clone, Debug)]
pub struct Iter<'a>(btree_set::Iter<'a, u32>);

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.next().copied()
    }
}

impl<'a> IntoIterator for &'a CpuSet {
    type Item = u32;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if last < first {
                return Err(CpuSetError::Descending { first, last });
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

fn number(text: &str) -> Result<u32, CpuSetError> {
    let not_one = || CpuSetError::NoNumber {
        text: text.to_owned(),
    };
    // The parser would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_one());
    }
    let number = text.parse().ok().ok_or_else(not_one)?;
    if number < CpuSet::LIMIT {
        Ok(number)
    } else {
        Err(CpuSetError::TooHigh { number })
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|&next| next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Why a text is no set of processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// No number where there has to be one.
    #[error("{text:?} is no number of a processor; 0-3,8 are five of them")]
    NoNumber {
        /// What is there.
        text: String,
    },
    /// A number that no processor has.
    #[error("no processor has the number {number}; they end with {}", CpuSet::LIMIT - 1)]
    TooHigh {
        /// The number.
        number: u32,
    },
    /// A range whose end is below its start.
    #[error("{first}-{last} are no processors, as the last is below the first")]
    Descending {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_and_written_as_linux_does() {
        for (text, cpus, written) in [
            ("0", vec![0], "0"),
            ("0-3,8", vec![0, 1, 2, 3, 8], "0-3,8"),
            ("8,1,0,1-1", vec![0, 1, 8], "0-1,8"),
            ("8191", vec![8191], "8191"),
        ] {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.iter().collect::<Vec<_>>(), cpus);
            assert_eq!(set.to_string(), written);
        }
        assert_eq!(CpuSet::default().to_string(), "");
    }

    #[test]
    fn what_is_no_set_is_refused_with_what_is_wrong() {
        for (text, reason) in [
            ("", "\"\" is no number"),
            ("0,", "\"\" is no number"),
            ("-1", "\"\" is no number"),
            ("0-", "\"\" is no number"),
            ("+1", "\"+1\" is no number"),
            ("0 1", "\"0 1\" is no number"),
            ("one", "\"one\" is no number"),
            ("3-1", "3-1 are no processors"),
            ("8192", "number 8192"),
            ("0-4294967295", "number 4294967295"),
            ("99999999999", "\"99999999999\" is no number"),
        ] {
            let error = text.parse::<CpuSet>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
