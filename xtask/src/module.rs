//! A kernel's modules: which need which, in the order in which they must be loaded.

use crate::failure::{Because, Failure, Outcome};
use crate::package::files_below;
use crate::tools;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies the modules `wanted` from the unpacked package `tree` into `folder`, with all that they
/// depend on, and writes their names in the order of loading into `folder`'s file `order`.
pub(crate) fn collect(tree: &Path, wanted: &[&str], folder: &Path) -> Outcome {
    let mut files = BTreeMap::new();
    let mut built_in = Vec::new();
    for place in ["lib/modules", "usr/lib/modules"] {
        index(&tree.join(place), &mut files, &mut built_in)?;
    }
    let mut images = BTreeMap::new();
    let order = load_order(wanted, &built_in, &mut |name| {
        let file: &PathBuf = files
            .get(name)
            .ok_or_else(|| Failure::new(format!("the kernel has no module {name}")))?;
        let image = read(file)?;
        let needed = dependencies(&image);
        images.insert(name.to_owned(), image);
        Ok(needed)
    })?;
    fs::create_dir_all(folder).because(|| format!("cannot make {}", folder.display()))?;
    let mut list = String::new();
    for name in order {
        let to = folder.join(format!("{name}.ko"));
        fs::write(&to, &images[&name]).because(|| format!("cannot write {}", to.display()))?;
        list.push_str(&name);
        list.push_str(".ko\n");
    }
    let to = folder.join("order");
    fs::write(&to, list).because(|| format!("cannot write {}", to.display()))
}

/// The module in `file`, unpacked: newer releases have them packed.
fn read(file: &Path) -> Outcome<Vec<u8>> {
    let what = || format!("cannot read {}", file.display());
    if file.extension().is_some_and(|extension| extension == "ko") {
        return fs::read(file).because(what);
    }
    tools::install(&[tools::XZ])?;
    let unpacked = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()
        .because(what)?;
    if unpacked.status.success() {
        Ok(unpacked.stdout)
    } else {
        let complaint = String::from_utf8_lossy(&unpacked.stderr);
        Err(Failure::new(format!(
            "{}: {}",
            what(),
            complaint.trim_end()
        )))
    }
}

/// Finds every module file below `folder`, and the names in `modules.builtin`.
fn index(
    folder: &Path,
    files: &mut BTreeMap<String, PathBuf>,
    built_in: &mut Vec<String>,
) -> Outcome {
    // Some packages have one of the two places, some the other.
    if !folder.is_dir() {
        return Ok(());
    }
    for path in files_below(folder)? {
        let name = path.to_string_lossy();
        let name = name.strip_suffix(".xz").unwrap_or(&name);
        if let Some(module) = name.strip_suffix(".ko") {
            files.insert(canonical(&file_name(module)), path);
        } else if path
            .file_name()
            .is_some_and(|name| name == "modules.builtin")
        {
            let text =
                fs::read_to_string(&path).because(|| format!("cannot read {}", path.display()))?;
            built_in.extend(
                text.lines()
                    .map(|line| canonical(&file_name(line.trim_end_matches(".ko")))),
            );
        }
    }
    Ok(())
}

/// `wanted` and all they depend on, each after what it needs.
fn load_order(
    wanted: &[&str],
    built_in: &[String],
    needs: &mut impl FnMut(&str) -> Outcome<Vec<String>>,
) -> Outcome<Vec<String>> {
    fn visit(
        name: &str,
        built_in: &[String],
        needs: &mut impl FnMut(&str) -> Outcome<Vec<String>>,
        order: &mut Vec<String>,
    ) -> Outcome {
        let known = |list: &[String]| list.iter().any(|other| other == name);
        if known(built_in) || known(order) {
            return Ok(());
        }
        for needed in needs(name)? {
            visit(&needed, built_in, needs, order)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
    let mut order = Vec::new();
    for name in wanted {
        visit(&canonical(name), built_in, needs, &mut order)?;
    }
    Ok(order)
}

/// The modules that the module file `image` says it depends on: the words after `depends=` in its
/// section `.modinfo`, which is a row of strings that end with NUL.
fn dependencies(image: &[u8]) -> Vec<String> {
    image
        .split(|&byte| byte == 0)
        .filter_map(|text| text.strip_prefix(b"depends="))
        .filter_map(|names| str::from_utf8(names).ok())
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect()
}

/// Module names do not tell `-` from `_`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(wanted: &[&str], built_in: &[&str]) -> Vec<String> {
        let built_in: Vec<String> = built_in.iter().map(ToString::to_string).collect();
        let mut needs = |name: &str| {
            Ok(match name {
                "9pnet_virtio" => vec!["9pnet".into(), "virtio_ring".into(), "virtio".into()],
                "virtio_ring" => vec!["virtio".into()],
                "9pnet" | "virtio" => vec![],
                other => return Err(Failure::new(format!("no {other}"))),
            })
        };
        load_order(wanted, &built_in, &mut needs).unwrap_or_else(|why| vec![why.to_string()])
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_only_once() {
        let expected = ["9pnet", "virtio", "virtio_ring", "9pnet_virtio"];
        assert_eq!(order(&["9pnet-virtio", "virtio"], &[]), expected);
    }

    #[test]
    fn what_is_built_in_is_left_out() {
        assert_eq!(
            order(
                &["9pnet_virtio", "zlib"],
                &["virtio_ring", "zlib", "virtio"]
            ),
            ["9pnet", "9pnet_virtio"]
        );
    }

    #[test]
    fn an_unknown_module_is_named() {
        assert_eq!(order(&["nonesuch"], &[]), ["no nonesuch"]);
    }

    #[test]
    fn dependencies_are_read_from_the_module_itself() {
        let image = b"\x7fELF\0license=GPL\0depends=kvm,ccp,virt-thing\0depends=\0name=x\0";
        assert_eq!(dependencies(image), ["kvm", "ccp", "virt_thing"]);
        assert!(dependencies(b"depends").is_empty());
    }
}
