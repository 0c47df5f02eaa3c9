//! `cargo xtask structure`: which modules of the pair import each other in a circle, and the longest files and
//! functions. It fails when one of them grows past its bound; the bounds only ever come down.

use crate::host;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A crate of the pair, and the most that it may have.
struct Bounds {
    name: &'static str,
    /// Modules that can all reach each other by imports.
    circle: usize,
    /// Lines of a file.
    file: usize,
    /// Lines of a function.
    function: usize,
}

const BOUNDS: [Bounds; 2] = [
    Bounds { name: "launcher", circle: 0, file: 604, function: 62 },
    Bounds { name: "init", circle: 0, file: 396, function: 46 },
];

/// How many files and functions are shown.
const SHOWN: usize = 5;

/// `cargo xtask structure`
pub fn structure() -> Result<ExitCode> {
    let mut good = true;
    for Bounds { name, circle, file, function } in BOUNDS {
        let modules = modules(&host::root().join(name).join("src"))?;
        let largest = circles(&modules).into_iter().next().unwrap_or_default();
        good &= show(name, "modules in a circle", &largest, largest.len(), circle);
        let files = longest(modules.iter().map(|(module, of)| (of.lines, module.join("::"))));
        good &= show(name, "lines in a file", &lines(&files), files.first().map_or(0, |(lines, _)| *lines), file);
        let functions = longest(modules.values().flat_map(|module| module.functions.iter().cloned()));
        let most = functions.first().map_or(0, |(lines, _)| *lines);
        good &= show(name, "lines in a function", &lines(&functions), most, function);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(name: &str, what: &str, which: &[String], most: usize, bound: usize) -> bool {
    let verdict = if most <= bound { "ok" } else { "TOO MANY" };
    println!("{name}: {most} {what}, at most {bound}: {verdict}\n    {}", which.join(", "));
    most <= bound
}

fn longest(all: impl Iterator<Item = (usize, String)>) -> Vec<(usize, String)> {
    let mut all: Vec<_> = all.collect();
    all.sort_by(|(a, a_name), (b, b_name)| b.cmp(a).then(a_name.cmp(b_name)));
    all.truncate(SHOWN);
    all
}

fn lines(all: &[(usize, String)]) -> Vec<String> {
    all.iter().map(|(lines, name)| format!("{name} {lines}")).collect()
}

/// A module's path from the crate's root, which has an empty one.
type Name = Vec<String>;

#[derive(Default)]
struct Module {
    lines: usize,
    /// Lines and names.
    functions: Vec<(usize, String)>,
    /// The paths that it names below the crate's root.
    paths: BTreeSet<Name>,
}

/// The modules of a crate: one a file.
fn modules(src: &Path) -> Result<BTreeMap<Name, Module>> {
    let mut modules = BTreeMap::new();
    let mut directories: Vec<(PathBuf, Name)> = vec![(src.into(), Name::new())];
    while let Some((directory, parent)) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut name = parent.clone();
            if path.is_dir() {
                name.push(stem);
                directories.push((path, name));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                if !matches!(stem.as_str(), "main" | "lib" | "mod") {
                    name.push(stem);
                }
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let file = syn::parse_file(&text).with_context(|| path.display().to_string())?;
                let mut reader = Reader { name: name.clone(), module: Module::default() };
                reader.visit_file(&file);
                reader.module.lines = text.lines().count();
                modules.insert(name, reader.module);
            }
        }
    }
    Ok(modules)
}

/// The modules that can reach each other, largest circle first.
fn circles(modules: &BTreeMap<Name, Module>) -> Vec<Vec<String>> {
    let imports = |module: &Name| -> BTreeSet<Name> {
        let of = |path: &Name| {
            (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|name| modules.contains_key(name))
        };
        // A module and the one below it are one room: only what they name beside each other counts.
        modules[module].paths.iter().filter_map(of).filter(|other| other != module).collect()
    };
    let direct: BTreeMap<&Name, BTreeSet<Name>> =
        modules.keys().filter(|name| !name.is_empty()).map(|name| (name, imports(name))).collect();
    let reach = |from: &Name| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(name) = open.pop() {
            for next in direct.get(&name).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Name, BTreeSet<Name>> = direct.keys().map(|name| (*name, reach(name))).collect();
    let circle = |name: &Name| -> BTreeSet<String> {
        let back = |other: &&Name| reached[name].contains(*other) && reached[*other].contains(name);
        reached.keys().copied().filter(back).map(|other| other.join("::")).collect()
    };
    let circles: BTreeSet<BTreeSet<String>> = reached.keys().map(|name| circle(name)).collect();
    let mut circles: Vec<Vec<String>> = circles.into_iter().map(|circle| circle.into_iter().collect()).collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// Reads one file.
struct Reader {
    name: Name,
    module: Module,
}

impl Reader {
    /// Notes a path that begins with `crate`, `self` or `super`.
    fn path(&mut self, path: &[String]) {
        let mut rest = path;
        let mut base = match rest.first().map(String::as_str) {
            Some("crate") => Name::new(),
            Some("self" | "super") => self.name.clone(),
            _ => return,
        };
        while let Some((first, others)) =
            rest.split_first().filter(|(first, _)| matches!(first.as_str(), "crate" | "self" | "super"))
        {
            if first == "super" {
                base.pop();
            }
            rest = others;
        }
        base.extend(rest.iter().cloned());
        self.module.paths.insert(base);
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
            syn::UseTree::Name(name) => self.path(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.path(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.path(before),
        }
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        self.module.functions.push((lines, [self.name.clone(), vec![name.to_string()]].concat().join("::")));
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
        };
        if !module.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&names);
        visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, function.block.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, function.block.span());
        visit::visit_impl_item_fn(self, function);
    }
}
