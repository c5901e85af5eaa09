//! What the host's Linux says of its processors (`Documentation/ABI/testing/sysfs-devices-system-cpu`,
//! `Documentation/admin-guide/pm/cpufreq.rst`, `Documentation/admin-guide/cputopology.rst`).
//!
//! It is the same on every architecture. The names are crosvm's; a fact that a host does not tell
//! is left out.

use crate::cpu_set::CpuSet;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file of sysfs is no longer than a page, which is at most that long.
const LONGEST: u64 = 64 << 10;

/// How much of a file's content an error shows.
const SHOWN: usize = 80;

/// The host's processors, as its sysfs tells of them.
#[derive(Clone, Debug)]
pub struct HostCpus {
    cpus: PathBuf,
}

impl HostCpus {
    /// Where sysfs is mounted.
    pub const SYSFS: &str = "/sys";

    /// What the tree at `sysfs` tells.
    #[must_use]
    pub fn new(sysfs: impl AsRef<Path>) -> Self {
        Self {
            cpus: sysfs.as_ref().join("devices/system/cpu"),
        }
    }

    /// Which are online; `None` where that is not known.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where the file cannot be read or is not what it has to be.
    pub fn online(&self) -> Result<Option<CpuSet>, HostCpuError> {
        read(&self.cpus.join("online"), "a set of processors", set)
    }

    /// The frequencies that each can run at, ascending, in kHz.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where a file cannot be read or is not what it has to be.
    pub fn get_host_cpu_frequencies_khz(&self) -> Result<BTreeMap<u32, Vec<u32>>, HostCpuError> {
        let each = self.each(|folder| {
            let path = folder.join("cpufreq/scaling_available_frequencies");
            read(&path, "frequencies in kHz", frequencies)
        })?;
        Ok(each
            .into_iter()
            .filter(|(_, frequencies)| !frequencies.is_empty())
            .collect())
    }

    /// The highest frequency of each, in kHz.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where a file cannot be read or is not what it has to be.
    pub fn get_host_cpu_max_freq_khz(&self) -> Result<BTreeMap<u32, u32>, HostCpuError> {
        self.each(|folder| {
            let path = folder.join("cpufreq/cpuinfo_max_freq");
            read(&path, "a frequency in kHz", number)
        })
    }

    /// The capacity of each beside the others, of which the fastest has 1024.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where a file cannot be read or is not what it has to be.
    pub fn get_host_cpu_capacity(&self) -> Result<BTreeMap<u32, u32>, HostCpuError> {
        self.each(|folder| read(&folder.join("cpu_capacity"), "a capacity", number))
    }

    /// The sets that share a cluster, each once, ascending by their first processor.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where a file cannot be read or is not what it has to be.
    pub fn get_host_cpu_clusters(&self) -> Result<Vec<CpuSet>, HostCpuError> {
        let mut clusters: Vec<CpuSet> = self
            .each(|folder| cluster(&folder.join("topology")))?
            .into_values()
            .collect();
        clusters.sort_unstable();
        clusters.dedup();
        Ok(clusters)
    }

    /// What `ask` finds in the folder of each that is online.
    fn each<T>(
        &self,
        ask: impl Fn(&Path) -> Result<Option<T>, HostCpuError>,
    ) -> Result<BTreeMap<u32, T>, HostCpuError> {
        let mut answers = BTreeMap::new();
        for cpu in &self.online()?.unwrap_or_default() {
            let folder = self.cpus.join(format!("cpu{cpu}"));
            if let Some(answer) = ask(&folder)? {
                answers.insert(cpu, answer);
            }
        }
        Ok(answers)
    }
}

/// Those that share a cluster. Where Linux knows of none, or is older than 5.16, the package is what
/// device trees call a cluster.
fn cluster(topology: &Path) -> Result<Option<CpuSet>, HostCpuError> {
    let id = topology.join("cluster_id");
    let is_known = read(&id, "a number", |text| i32::from_str(text).ok())?
        .is_some_and(|id| !NO_CLUSTER.contains(&id));
    let lists = ["cluster_cpus_list", "core_siblings_list"];
    for list in lists.iter().skip(usize::from(!is_known)) {
        let read = read(&topology.join(list), "a set of processors", set)?;
        if read.is_some() {
            return Ok(read);
        }
    }
    Ok(None)
}

/// How `cluster_id` says that there is none (`drivers/base/topology.c` of Linux, and its x86
/// architecture).
const NO_CLUSTER: [i32; 2] = [-1, 0xffff];

fn set(text: &str) -> Option<CpuSet> {
    text.parse().ok()
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn frequencies(text: &str) -> Option<Vec<u32>> {
    let words = text.split_whitespace().map(number);
    let mut frequencies: Vec<u32> = words.collect::<Option<_>>()?;
    frequencies.sort_unstable();
    frequencies.dedup();
    Some(frequencies)
}

/// What `parse` makes of a file; `None` where there is no such file.
fn read<T>(
    path: &Path,
    wanted: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, HostCpuError> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut content));
    match read {
        Ok(_) => {}
        Err(error) if is_not_known(&error) => return Ok(None),
        Err(source) => {
            return Err(HostCpuError::Read {
                path: path.to_owned(),
                source,
            });
        }
    }
    let text = String::from_utf8_lossy(&content);
    match parse(text.trim()) {
        Some(value) => Ok(Some(value)),
        None => Err(HostCpuError::Malformed {
            path: path.to_owned(),
            wanted,
            line: text
                .lines()
                .next()
                .unwrap_or("")
                .chars()
                .take(SHOWN)
                .collect(),
        }),
    }
}

/// There is no such file, or none any more: a processor can go offline at any time.
fn is_not_known(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || [Errno::NODEV, Errno::NXIO].contains(&Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// The host's sysfs cannot be read, or says what it cannot mean.
#[derive(Debug, thiserror::Error)]
pub enum HostCpuError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A file is not what it has to be.
    #[error("{} is to hold {wanted}, but says {line:?}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What it is to hold.
        wanted: &'static str,
        /// The beginning of its first line.
        line: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A tree of sysfs of one's own, gone with its test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("firstlight-host-cpu-{name}-{}", std::process::id());
            let tree = Self(std::env::temp_dir().join(name));
            for (file, content) in files {
                let path = tree.0.join("devices/system/cpu").join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            tree
        }

        fn cpus(&self) -> HostCpus {
            HostCpus::new(&self.0)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            // What is left of it is a temporary file.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sets(sets: &[&str]) -> Vec<CpuSet> {
        sets.iter().map(|set| set.parse().unwrap()).collect()
    }

    #[test]
    fn a_machine_of_two_clusters_is_told_of() {
        let tree = Tree::new(
            "clusters",
            &[
                ("online", "0-2\n"),
                ("cpu0/cpu_capacity", "446\n"),
                ("cpu1/cpu_capacity", "446\n"),
                ("cpu2/cpu_capacity", "1024\n"),
                ("cpu0/cpufreq/cpuinfo_max_freq", "1800000\n"),
                ("cpu2/cpufreq/cpuinfo_max_freq", "2400000\n"),
                (
                    "cpu0/cpufreq/scaling_available_frequencies",
                    "1800000 600000 1200000 600000 \n",
                ),
                ("cpu1/cpufreq/scaling_available_frequencies", "\n"),
                ("cpu0/topology/cluster_id", "0\n"),
                ("cpu0/topology/cluster_cpus_list", "0-1\n"),
                ("cpu0/topology/core_siblings_list", "0-2\n"),
                ("cpu1/topology/cluster_id", "0\n"),
                ("cpu1/topology/cluster_cpus_list", "0-1\n"),
                ("cpu2/topology/cluster_id", "1\n"),
                ("cpu2/topology/cluster_cpus_list", "2\n"),
                // Not online, so not asked.
                ("cpu3/cpu_capacity", "nonsense"),
            ],
        );
        let cpus = tree.cpus();
        assert_eq!(cpus.online().unwrap(), Some("0-2".parse().unwrap()));
        let capacity = cpus.get_host_cpu_capacity().unwrap();
        assert_eq!(capacity, BTreeMap::from([(0, 446), (1, 446), (2, 1024)]));
        let highest = cpus.get_host_cpu_max_freq_khz().unwrap();
        assert_eq!(highest, BTreeMap::from([(0, 1_800_000), (2, 2_400_000)]));
        let frequencies = cpus.get_host_cpu_frequencies_khz().unwrap();
        assert_eq!(
            frequencies,
            BTreeMap::from([(0, vec![600_000, 1_200_000, 1_800_000])])
        );
        assert_eq!(cpus.get_host_cpu_clusters().unwrap(), sets(&["0-1", "2"]));
    }

    #[test]
    fn a_cluster_that_linux_does_not_know_is_the_package() {
        for id in [None, Some("-1\n"), Some("65535\n")] {
            let mut files = vec![
                ("online", "0,2-3"),
                ("cpu0/topology/cluster_cpus_list", "0"),
                ("cpu0/topology/core_siblings_list", "0,2"),
                ("cpu2/topology/core_siblings_list", "0,2"),
            ];
            files.extend(id.map(|id| ("cpu0/topology/cluster_id", id)));
            let tree = Tree::new("packages", &files);
            assert_eq!(tree.cpus().get_host_cpu_clusters().unwrap(), sets(&["0,2"]));
        }
    }

    #[test]
    fn a_host_that_says_nothing_is_no_error() {
        let nowhere = HostCpus::new("/nonexistent");
        assert_eq!(nowhere.online().unwrap(), None);
        for files in [vec![], vec![("online", "0-1\n")]] {
            let tree = Tree::new("nothing", &files);
            let cpus = tree.cpus();
            assert!(cpus.get_host_cpu_frequencies_khz().unwrap().is_empty());
            assert!(cpus.get_host_cpu_max_freq_khz().unwrap().is_empty());
            assert!(cpus.get_host_cpu_capacity().unwrap().is_empty());
            assert!(cpus.get_host_cpu_clusters().unwrap().is_empty());
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_has_to_be_is_named_with_what_it_says() {
        let said = |file, content: &str| {
            let tree = Tree::new("malformed", &[("online", "0"), (file, content)]);
            let cpus = tree.cpus();
            let errors = [
                cpus.get_host_cpu_frequencies_khz().err(),
                cpus.get_host_cpu_max_freq_khz().err(),
                cpus.get_host_cpu_capacity().err(),
                cpus.get_host_cpu_clusters().err(),
            ];
            let mut errors = errors.into_iter().flatten();
            let error = errors.next().unwrap().to_string();
            assert!(error.contains(file), "{error}");
            error
        };
        let error = said("cpu0/cpu_capacity", "fast\nvery\n");
        assert!(
            error.ends_with("is to hold a capacity, but says \"fast\""),
            "{error}"
        );
        let frequencies = "cpu0/cpufreq/scaling_available_frequencies";
        let error = said(frequencies, "600000 <unknown>\n");
        assert!(error.ends_with("says \"600000 <unknown>\""), "{error}");
        let error = said("cpu0/cpufreq/cpuinfo_max_freq", "");
        assert!(error.ends_with("says \"\""), "{error}");
        let error = said("cpu0/topology/core_siblings_list", "4-0");
        assert!(error.ends_with("says \"4-0\""), "{error}");
        let error = said("cpu0/topology/cluster_id", &"9".repeat(100_000));
        assert!(error.len() < 300, "{error}");
        let tree = Tree::new("online", &[("online", "\u{1b}[31m")]);
        let error = tree.cpus().get_host_cpu_capacity().unwrap_err().to_string();
        assert!(error.ends_with("says \"\\u{1b}[31m\""), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let tree = Tree::new("unreadable", &[("online/is", "a folder")]);
        let error = tree.cpus().online().unwrap_err().to_string();
        assert!(error.starts_with("cannot read "), "{error}");
        assert!(error.ends_with("/online"), "{error}");
    }

    #[test]
    fn this_host_can_be_asked() {
        let host = HostCpus::new(HostCpus::SYSFS);
        host.get_host_cpu_frequencies_khz().unwrap();
        host.get_host_cpu_max_freq_khz().unwrap();
        host.get_host_cpu_capacity().unwrap();
        host.get_host_cpu_clusters().unwrap();
    }
}
