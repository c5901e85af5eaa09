//! Debian's packages, of any suite and architecture, without touching the packages of this machine.
//!
//! Each suite of an architecture has lists, caches and a dpkg status of its own in our cache. The mirror is the one
//! that this machine's own apt uses (`sources.list(5)`, both styles).

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A suite of Debian's archive for one architecture, seen from here.
pub(crate) struct Suite {
    state: PathBuf,
    architecture: Architecture,
    _lock: fs::File,
}

impl Suite {
    /// Opens `name` (`bookworm`) for `architecture`, with lists that are at most a day old.
    pub(crate) fn open(cache: &Cache, name: &str, architecture: Architecture) -> Outcome<Self> {
        let folder = format!("apt/{name}-{}", architecture.debian());
        let lock = cache.lock(&folder)?;
        let state = cache.folder().join(&folder);
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
        }
        let suite = Self {
            state,
            architecture,
            _lock: lock,
        };
        if !suite.is_fresh() {
            suite.write(name)?;
            suite.update()?;
        }
        Ok(suite)
    }

    /// The packages that `package` consists of: itself, and of a meta package the kernel it
    /// stands for, with the modules where they are packages of their own.
    pub(crate) fn kernel_packages(&self, package: &str) -> Outcome<Vec<String>> {
        let mut found = vec![package.to_owned()];
        let mut next = 0;
        while let Some(name) = found.get(next) {
            let listing =
                process::output_of(self.apt("apt-cache").args(["depends", "--important", name]))?;
            for dependency in kernel_dependencies(&listing) {
                if !found.contains(&dependency) {
                    found.push(dependency);
                }
            }
            next += 1;
        }
        Ok(found)
    }

    /// Downloads `packages` into `folder`, and says where they are.
    pub(crate) fn download(&self, packages: &[String], folder: &Path) -> Outcome<Vec<PathBuf>> {
        fs::create_dir_all(folder).because(|| format!("cannot make {}", folder.display()))?;
        self.fetch(|| {
            let mut apt = self.apt("apt-get");
            apt.args(["--quiet", "--quiet", "download"]).args(packages);
            apt.current_dir(folder);
            apt
        })?;
        packages_in(folder)
    }

    /// Downloads `packages`, and unpacks their files into one new folder in `folder`.
    pub(crate) fn unpacked(&self, packages: &[String], folder: &Path) -> Outcome<PathBuf> {
        let (tree, debs) = (folder.join("tree"), folder.join("debs"));
        fs::create_dir(&tree).because(|| format!("cannot make {}", tree.display()))?;
        for deb in self.download(packages, &debs)? {
            unpack(&deb, &tree)?;
        }
        fs::remove_dir_all(&debs).because(|| format!("cannot remove {}", debs.display()))?;
        Ok(tree)
    }

    /// Downloads `packages` with all that they depend on into `folder`.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str], folder: &Path) -> Outcome {
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).because(|| format!("cannot make {}", partial.display()))?;
        self.fetch(|| {
            let mut apt = self.apt("apt-get");
            apt.arg("--option=APT::Install-Recommends=false")
                .arg(format!(
                    "--option=Dir::Cache::archives={}",
                    folder.display()
                ))
                .args(["--quiet", "--quiet", "--yes", "--download-only", "install"])
                .args(packages);
            apt
        })
    }

    /// Lets apt fetch packages. A version vanishes from the archive when the next one comes: then
    /// it looks again.
    fn fetch(&self, apt: impl Fn() -> Command) -> Outcome {
        if process::output_of(&mut apt()).is_err() {
            self.update()?;
            process::output_of(&mut apt())?;
        }
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        fs::metadata(self.state.join("updated"))
            .and_then(|stamp| stamp.modified())
            .is_ok_and(|when| {
                when.elapsed()
                    .is_ok_and(|age| age < Duration::from_secs(24 * 60 * 60))
            })
    }

    fn write(&self, name: &str) -> Outcome {
        let write = |file: &str, text: &str| {
            let path = self.state.join(file);
            fs::write(&path, text).because(|| format!("cannot write {}", path.display()))
        };
        write("status", "")?;
        write("sources.list", &Mirror::of_this_machine()?.line(name))
    }

    fn update(&self) -> Outcome {
        process::output_of(self.apt("apt-get").args(["--quiet", "--quiet", "update"]))?;
        let stamp = self.state.join("updated");
        fs::write(&stamp, "").because(|| format!("cannot write {}", stamp.display()))
    }

    /// An apt program that sees this suite and nothing of the machine's own packages.
    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        let at = |name: &str| self.state.join(name).display().to_string();
        // Options on the command line come after, and so win over, the machine's own files.
        for option in [
            format!("APT::Architecture={}", self.architecture.debian()),
            format!("APT::Architectures={}", self.architecture.debian()),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            format!("Dir::State={}", at("")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            format!("Dir::Etc::sourceparts={}", at("parts")),
            format!("Dir::Etc::preferences={}", at("preferences")),
            format!("Dir::Etc::preferencesparts={}", at("parts")),
        ] {
            apt.arg(format!("--option={option}"));
        }
        apt.env("LC_ALL", "C");
        apt
    }
}

/// The packages in `folder`.
pub(crate) fn packages_in(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let what = || format!("cannot list {}", folder.display());
    let mut debs = Vec::new();
    for entry in fs::read_dir(folder).because(what)? {
        let path = entry.because(what)?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    debs.sort();
    Ok(debs)
}

/// Unpacks the files of the package `deb` into `folder`; a link to a folder there stays one.
pub(crate) fn unpack(deb: &Path, folder: &Path) -> Outcome {
    let what = || format!("cannot unpack {}", deb.display());
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .because(what)?;
    let pipe = archive
        .stdout
        .take()
        .ok_or_else(|| Failure::new("dpkg-deb has no output"))?;
    let unpacked = Command::new("tar")
        .args(["--extract", "--no-same-owner", "--keep-directory-symlink"])
        .arg("--directory")
        .arg(folder)
        .stdin(pipe)
        .status();
    let read = archive.wait().because(what)?;
    let unpacked = unpacked.because(what)?;
    if read.success() && unpacked.success() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{}: dpkg-deb {read}, tar {unpacked}",
            what()
        )))
    }
}

/// The kernel packages among the dependencies that `apt-cache depends` lists.
fn kernel_dependencies(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
        .filter(|name| {
            ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .map(str::to_owned)
        .collect()
}

/// Where Debian's archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    /// This machine takes its packages without looking at signatures.
    trusted: bool,
}

impl Mirror {
    fn of_this_machine() -> Outcome<Self> {
        if let Some(uri) = std::env::var_os(MIRROR_VARIABLE) {
            let uri = uri.to_string_lossy().into_owned();
            tools::install(&[tools::DEBIAN_KEYS])?;
            return Ok(Self {
                uri,
                trusted: false,
            });
        }
        if let Some(source) = debian_source(&machine_sources()) {
            if !source.trusted {
                tools::install(&[tools::DEBIAN_KEYS])?;
            }
            return Ok(Self {
                uri: source.uri,
                trusted: source.trusted,
            });
        }
        // Another distribution of the family: its packages know where Debian's are.
        tools::install(&[tools::DEBIAN_KEYS, tools::DEBIAN_MIRRORS])?;
        let info = fs::read_to_string("/usr/share/python-apt/templates/Debian.info")
            .because(|| "cannot read the list of Debian's mirrors".to_owned())?;
        match info.lines().find_map(|line| line.strip_prefix("BaseURI:")) {
            Some(uri) => Ok(Self {
                uri: uri.trim().to_owned(),
                trusted: false,
            }),
            None => Err(Failure::new(format!(
                "no Debian mirror in this machine's apt configuration; set {MIRROR_VARIABLE}"
            ))),
        }
    }

    /// The line of a `sources.list` that names `suite` here.
    fn line(&self, suite: &str) -> String {
        let option = if self.trusted {
            "trusted=yes"
        } else {
            "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
        };
        format!("deb [{option}] {} {suite} main\n", self.uri)
    }
}

/// Names a mirror, for machines whose apt has none of Debian's.
const MIRROR_VARIABLE: &str = "FIRSTLIGHT_DEBIAN_MIRROR";

/// One source of packages in apt's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: String,
    trusted: bool,
}

/// What this machine's apt is told, file by file.
fn machine_sources() -> Vec<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(deb822_sources(&text)),
            Some("list") => sources.extend(one_line_sources(&text)),
            _ => {}
        }
    }
    sources
}

/// The source that is Debian's own archive, where there is one.
fn debian_source(sources: &[Source]) -> Option<Source> {
    const SUITES: [&str; 10] = [
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ];
    let debian: Vec<&Source> = sources
        .iter()
        .filter(|source| {
            source
                .components
                .iter()
                .any(|component| component == "main")
                && source
                    .suites
                    .iter()
                    .any(|suite| SUITES.contains(&suite.as_str()))
        })
        .collect();
    // Others name their suites after Debian's, too.
    let surely = |source: &&&Source| {
        source.signed_by.contains("debian-archive")
            || source.uri.trim_end_matches('/').ends_with("/debian")
    };
    let found = debian.iter().find(surely).or(debian.first());
    found.map(|source| (*source).clone())
}

/// Reads the deb822 style: stanzas of `Field: value`, continued by indented lines.
fn deb822_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let stanzas: Vec<&str> = lines.collect();
    for stanza in stanzas.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            match (line.starts_with([' ', '\t']), fields.last_mut()) {
                (true, Some((_, value))) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                _ => {
                    if let Some((name, value)) = line.split_once(':') {
                        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                    }
                }
            }
        }
        let field = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let words = |name: &str| field(name).split_whitespace().map(str::to_owned);
        if !words("types").any(|kind| kind == "deb") || is_no(field("enabled")) {
            continue;
        }
        for uri in words("uris") {
            sources.push(Source {
                uri,
                suites: words("suites").collect(),
                components: words("components").collect(),
                signed_by: field("signed-by").to_owned(),
                trusted: is_yes(field("trusted")),
            });
        }
    }
    sources
}

/// Reads the one-line style: `deb [option=value ...] uri suite component ...`.
fn one_line_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").map(str::trim_start) else {
            continue;
        };
        let (options, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let option = |name: &str| {
            let mut pairs = options.split_whitespace().filter_map(|o| o.split_once('='));
            let found = pairs.find(|(option, _)| option.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value)
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        sources.push(Source {
            uri,
            suites: vec![suite],
            components: words.collect(),
            signed_by: option("signed-by").to_owned(),
            trusted: is_yes(option("trusted")),
        });
    }
    sources
}

fn is_yes(word: &str) -> bool {
    ["yes", "true", "1", "on"].contains(&word.to_ascii_lowercase().as_str())
}

fn is_no(word: &str) -> bool {
    ["no", "false", "0", "off"].contains(&word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_leads_to_its_kernel_and_nothing_else() {
        let listing = "linux-image-amd64\n  Depends: linux-image-6.1.0-50-amd64\n \
                       |Depends: initramfs-tools\n  Depends: <linux-initramfs-tool>\n";
        assert_eq!(kernel_dependencies(listing), ["linux-image-6.1.0-50-amd64"]);
        let listing = "linux-image-7.2\n  Depends: linux-binary-7.2\n  Depends: linux-modules-7.2\n  \
                       Depends: kmod\n";
        assert_eq!(
            kernel_dependencies(listing),
            ["linux-binary-7.2", "linux-modules-7.2"]
        );
    }

    #[test]
    fn the_deb822_style_is_read() {
        let text = "# a comment\nTypes: deb deb-src\nURIs: http://a.example/debian\n# within\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n  contrib\n\
                    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                    Types: deb\nURIs: http://b.example/debian\nSuites: trixie\nComponents: main\n\
                    Enabled: no\n\nTypes: deb-src\nURIs: http://c.example\nSuites: sid\n";
        let sources = deb822_sources(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].uri, "http://a.example/debian");
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert!(sources[0].signed_by.ends_with("debian-archive-keyring.gpg"));
    }

    #[test]
    fn the_one_line_style_is_read() {
        let text = "deb [arch=amd64 trusted=yes] http://a.example/debian trixie main contrib # x\n\
                    #deb http://b.example/debian sid main\n\
                    deb-src http://c.example/debian sid main\n\
                    deb http://d.example/debian sid main\n";
        let sources = one_line_sources(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].uri, "http://a.example/debian");
        assert_eq!(sources[0].suites, ["trixie"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert!(sources[0].trusted);
        assert!(!sources[1].trusted);
    }

    #[test]
    fn third_parties_are_not_taken_for_debian() {
        let text = "deb http://vendor.example/linux/debian bookworm stable\n\
                    deb http://tools.example bookworm main\n\
                    deb http://mirror.example/debian bookworm main\n\
                    deb http://mirror.example/debian-security bookworm-security main\n";
        let found = debian_source(&one_line_sources(text)).unwrap();
        assert_eq!(found.uri, "http://mirror.example/debian");
        let ubuntu = "deb http://archive.example/ubuntu noble main universe\n";
        assert_eq!(debian_source(&one_line_sources(ubuntu)), None);
    }
}
