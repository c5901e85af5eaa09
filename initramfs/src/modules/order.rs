//! The order in which modules must be loaded.

use super::{
    CHAIN_MAX, Kernel, LIST_MAX, ModInfo, Module, ModuleError, ModuleTree, SUM_MAX, canonical,
    read_file, read_list,
};
use std::collections::BTreeMap;
use std::path::Path;

/// `wanted` and all they need, each behind what it needs.
pub(super) fn of(
    tree: &ModuleTree,
    wanted: &[&str],
    kernel: &Kernel<'_>,
) -> Result<Vec<Module>, ModuleError> {
    let mut order = Order {
        tree,
        kernel,
        modules: Vec::new(),
        chain: Vec::new(),
        sum: 0,
        aliases: BTreeMap::new(),
    };
    for name in wanted {
        order.add(canonical(name))?;
    }
    Ok(order.modules)
}

struct Order<'a> {
    tree: &'a ModuleTree,
    kernel: &'a Kernel<'a>,
    modules: Vec<Module>,
    /// Those that are being added, each needed by the one before it.
    chain: Vec<String>,
    /// The bytes of both.
    sum: usize,
    /// What was found out of aliases.
    aliases: BTreeMap<String, Vec<String>>,
}

impl Order<'_> {
    fn add(&mut self, name: String) -> Result<(), ModuleError> {
        if self.is_there(&name) {
            return Ok(());
        }
        self.check_chain(&name)?;
        let tree = self.tree;
        let Some(path) = tree.files.get(&name) else {
            return Err(match self.chain.last().cloned() {
                Some(needed_by) => ModuleError::MissingDependency { name, needed_by },
                None => ModuleError::Missing { name },
            });
        };
        let image = tree.read(path)?;
        let info = described(path, &image)?;
        self.check_kernel(path, &info)?;
        self.sum = self.sum.saturating_add(image.len());
        if self.sum > SUM_MAX {
            return Err(ModuleError::LargeSum { name });
        }
        self.chain.push(name);
        for needed in info.depends() {
            self.add(canonical(needed))?;
        }
        for wanted in info.soft_depends() {
            self.add_soft(&canonical(wanted))?;
        }
        if let Some(name) = self.chain.pop() {
            self.modules.push(Module {
                name,
                image,
                parameters: String::new(),
            });
        }
        Ok(())
    }

    /// Adds what a module only wants: nothing where it is not there, or wants that module itself.
    fn add_soft(&mut self, wanted: &str) -> Result<(), ModuleError> {
        for name in self.named(wanted)? {
            if !self.chain.contains(&name) {
                self.add(name)?;
            }
        }
        Ok(())
    }

    fn is_there(&self, name: &str) -> bool {
        self.tree.built_in.contains(name) || self.modules.iter().any(|module| module.name == name)
    }

    fn check_chain(&self, name: &str) -> Result<(), ModuleError> {
        if let Some(at) = self.chain.iter().position(|other| other == name) {
            let names = self.chain.iter().skip(at).cloned();
            let names = names.chain([name.to_owned()]).collect();
            return Err(ModuleError::Loop { names });
        }
        match self.chain.first() {
            Some(first) if self.chain.len() == CHAIN_MAX => Err(ModuleError::LongChain {
                name: first.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn check_kernel(&self, path: &Path, info: &ModInfo<'_>) -> Result<(), ModuleError> {
        let path = path.to_owned();
        if info.architecture != self.kernel.architecture {
            return Err(ModuleError::OtherArchitecture {
                path,
                module: info.architecture,
                kernel: self.kernel.architecture,
            });
        }
        match (info.kernel(), self.kernel.version) {
            (Some(module), Some(kernel)) if module != kernel => Err(ModuleError::OtherVersion {
                path,
                module: module.to_owned(),
                kernel: kernel.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The modules that `name` stands for: one of that name, or those with that alias.
    fn named(&mut self, name: &str) -> Result<Vec<String>, ModuleError> {
        if self.tree.knows(name) {
            return Ok(vec![name.to_owned()]);
        }
        if let Some(known) = self.aliases.get(name) {
            return Ok(known.clone());
        }
        let found = best(aliased(self.tree, name)?);
        self.aliases.insert(name.to_owned(), found.clone());
        Ok(found)
    }
}

/// Of several, those that run on any machine of the architecture: others fail on some.
fn best(names: Vec<String>) -> Vec<String> {
    let generic = |name: &&String| name.ends_with("_generic");
    match names.iter().find(generic) {
        Some(name) => vec![name.clone()],
        None => names,
    }
}

/// The modules with that alias; none where what is built into the kernel has it.
fn aliased(tree: &ModuleTree, alias: &str) -> Result<Vec<String>, ModuleError> {
    if built_in_has(tree, alias)? {
        return Ok(Vec::new());
    }
    let list = tree.folder.join("modules.alias");
    match read_list(&list)? {
        Some(text) => Ok(listed(&text, alias)),
        None => Ok(tried(tree, alias)),
    }
}

/// Whether `modules.builtin.modinfo` says so, a row of `MODULE.KEY=VALUE`, each with a NUL behind.
fn built_in_has(tree: &ModuleTree, alias: &str) -> Result<bool, ModuleError> {
    let path = tree.folder.join("modules.builtin.modinfo");
    if !path.is_file() {
        return Ok(false);
    }
    let strings = read_file(&path, LIST_MAX)?;
    Ok(strings
        .split(|&byte| byte == 0)
        .filter_map(|text| str::from_utf8(text).ok())
        .filter_map(|text| text.split_once(".alias="))
        .any(|(_, value)| canonical(value) == alias))
}

/// What `modules.alias` says: lines of `alias PATTERN MODULE`.
fn listed(text: &str, alias: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("alias")
            && words.next().is_some_and(|name| canonical(name) == alias)
            && let Some(module) = words.next()
        {
            found.push(canonical(module));
        }
    }
    found
}

/// What the modules say themselves, where nobody made lists. There are thousands: only those that
/// are asked for by an alias in practice are opened, which are algorithms, and if there is a match
/// among those that are named for the algorithm, only they. One that cannot be read is nobody's wish.
fn tried(tree: &ModuleTree, alias: &str) -> Vec<String> {
    let is_algorithm = |path: &Path| {
        let folders = path.strip_prefix(&tree.folder).unwrap_or(path);
        folders
            .iter()
            .any(|folder| folder == "crypto" || folder == "lib")
    };
    let has_alias = |path: &Path| {
        let image = tree.read(path)?;
        let info = described(path, &image)?;
        Ok::<_, ModuleError>(info.values("alias").any(|other| canonical(other) == alias))
    };
    let algorithm = alias.strip_prefix("crypto_").unwrap_or(alias);
    let (named, others): (Vec<_>, Vec<_>) = tree
        .files
        .iter()
        .filter(|(_, path)| is_algorithm(path))
        .partition(|(name, _)| name.contains(algorithm));
    [named, others]
        .into_iter()
        .map(|files| {
            let matches = files
                .into_iter()
                .filter(|(_, path)| has_alias(path).unwrap_or(false));
            matches.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        })
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// What the module in `path` says of itself.
fn described<'a>(path: &Path, image: &'a [u8]) -> Result<ModInfo<'a>, ModuleError> {
    ModInfo::parse(image).map_err(|source| ModuleError::NoModule {
        path: path.to_owned(),
        source,
    })
}
