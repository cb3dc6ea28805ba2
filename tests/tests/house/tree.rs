//! The modules of a crate: which file each stands in, what it takes from others, and where a path leads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::reader::{Placed, group, read};

/// The files of one crate, from its root on.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    modules: Vec<Module>,
}

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// Lines with code: neither blank, nor comment, nor test.
    pub(crate) lines: usize,
}

#[derive(Debug)]
struct Module {
    file: usize,
    parent: usize,
    children: HashMap<String, usize>,
    defined: HashSet<String>,
    uses: Vec<Use>,
    /// Paths written in code.
    paths: Vec<Vec<String>>,
    /// All words of the code outside of `use`.
    words: HashSet<String>,
}

/// One leaf of a `use`.
#[derive(Clone, Debug)]
struct Use {
    path: Vec<String>,
    /// What it is called here; a star has no name.
    alias: Option<String>,
    handed_on: bool,
}

/// What one file takes from others: the names by the file that defines them.
pub(crate) type Imports = BTreeMap<usize, BTreeSet<String>>;

impl Tree {
    pub(crate) fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.file(root, root.parent().expect("a root stands in a folder"), 0);
        tree
    }

    /// Reads a file as the next module, whose own modules stand in `folder`.
    fn file(&mut self, path: &Path, folder: &Path, parent: usize) -> usize {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let tokens = read(&text);
        let lines = tokens.iter().flat_map(|token| token.first..=token.last).collect::<HashSet<_>>().len();
        self.files.push(File { path: path.to_owned(), lines });
        let file = self.files.len() - 1;
        self.module(&tokens, file, folder, parent)
    }

    fn module(&mut self, tokens: &[Placed], file: usize, folder: &Path, parent: usize) -> usize {
        let this = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            children: HashMap::new(),
            defined: HashSet::new(),
            uses: Vec::new(),
            paths: Vec::new(),
            words: HashSet::new(),
        });
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1);
            match (token.word(), next.and_then(Placed::word)) {
                (Some("mod"), Some(name)) if tokens.get(at + 2).is_some_and(|token| token.is(';')) => {
                    if let Some(child) = self.declared(name, folder, this) {
                        self.modules[this].children.insert(name.to_owned(), child);
                    }
                    at += 3;
                }
                (Some("mod"), Some(name)) if tokens.get(at + 2).is_some_and(|token| token.is('{')) => {
                    let length = group(&tokens[at + 2..]);
                    let inside = &tokens[at + 3..at + 1 + length];
                    let child = self.module(inside, file, &folder.join(name), this);
                    self.modules[this].children.insert(name.to_owned(), child);
                    at += 2 + length;
                }
                (Some("use"), _) => {
                    let length = tokens[at..].iter().position(|token| token.is(';')).unwrap_or(1);
                    let handed_on = at > 0 && (tokens[at - 1].is_word("pub") || tokens[at - 1].is(')'));
                    branches(&tokens[at + 1..at + length], &[], handed_on, &mut self.modules[this].uses);
                    at += length;
                }
                (Some(_), _) => {
                    at += self.modules[this].word(&tokens[at..], at.checked_sub(1).map(|at| &tokens[at]))
                }
                (None, _) => at += 1,
            }
        }
        this
    }

    /// `mod name;`. None: its file stands elsewhere (`#[path]`), and is looked at there.
    fn declared(&mut self, name: &str, folder: &Path, parent: usize) -> Option<usize> {
        let inside = folder.join(name);
        let places = [folder.join(format!("{name}.rs")), inside.join("mod.rs")];
        let path = places.iter().find(|path| path.exists())?;
        Some(self.file(path, &inside, parent))
    }

    /// What each file takes from others of this crate. To declare a module is to take nothing, and so is to name a module
    /// on the way: what counts is the file that defines the name at the end. Nor does a file take what it only hands on.
    /// A module is a whole with those inside of it: a part that names its whole takes nothing from elsewhere.
    pub(crate) fn imports(&self) -> Vec<Imports> {
        let mut imports = vec![Imports::new(); self.files.len()];
        for (this, module) in self.modules.iter().enumerate() {
            let used = module.uses.iter().filter(|leaf| {
                !leaf.handed_on || leaf.alias.as_ref().is_some_and(|alias| module.words.contains(alias))
            });
            for path in used.map(|leaf| &leaf.path).chain(&module.paths) {
                if let Some((file, name)) = self.resolve(this, path, MAX_STEPS)
                    && !self.around(this).any(|whole| whole == file)
                {
                    imports[module.file].entry(file).or_default().insert(name);
                }
            }
        }
        imports
    }

    /// The file of a module, and those of the modules that it stands in.
    fn around(&self, this: usize) -> impl Iterator<Item = usize> {
        let outwards =
            std::iter::successors(Some(this), |inner| (*inner != 0).then(|| self.modules[*inner].parent));
        outwards.map(|module| self.modules[module].file)
    }

    /// The file that defines what `path` names in module `this`, and its name there.
    fn resolve(&self, this: usize, path: &[String], steps: usize) -> Option<(usize, String)> {
        let (first, rest) = path.split_first()?;
        let module = &self.modules[this];
        match first.as_str() {
            "crate" => self.walk(0, rest, steps),
            "self" => self.walk(this, rest, steps),
            "super" if rest.first().is_some_and(|next| next == "super") => {
                self.resolve(module.parent, rest, steps)
            }
            "super" => self.walk(module.parent, rest, steps),
            name if module.children.contains_key(name) => self.walk(module.children[name], rest, steps),
            _ => self.renamed(this, first, rest, steps),
        }
    }

    fn walk(&self, from: usize, path: &[String], steps: usize) -> Option<(usize, String)> {
        let (first, rest) = path.split_first()?;
        let module = &self.modules[from];
        if let Some(child) = module.children.get(first) {
            return self.walk(*child, rest, steps);
        }
        if module.defined.contains(first) {
            return Some((module.file, first.clone()));
        }
        // What a macro makes is seen by nobody here: it stands where the path ends.
        let is_known = module.uses.iter().any(|leaf| leaf.alias.as_ref() == Some(first));
        self.renamed(from, first, rest, steps).or_else(|| (!is_known).then(|| (module.file, first.clone())))
    }

    /// Follows a name that a `use` of module `this` brought in.
    fn renamed(&self, this: usize, name: &String, rest: &[String], steps: usize) -> Option<(usize, String)> {
        let steps = steps.checked_sub(1)?;
        let uses = &self.modules[this].uses;
        if let Some(leaf) = uses.iter().find(|leaf| leaf.alias.as_ref() == Some(name)) {
            return self.resolve(this, &[leaf.path.as_slice(), rest].concat(), steps);
        }
        uses.iter().filter(|leaf| leaf.alias.is_none()).find_map(|star| {
            let inside =
                self.resolve(this, &[star.path.as_slice(), std::slice::from_ref(name)].concat(), steps)?;
            self.modules.iter().any(|m| m.file == inside.0 && m.defined.contains(&inside.1)).then_some(inside)
        })
    }
}

impl Module {
    /// Notes the word or path that begins here; says how many tokens it took.
    fn word(&mut self, tokens: &[Placed], before: Option<&Placed>) -> usize {
        let word = |at: usize| tokens.get(at).and_then(Placed::word);
        let first = word(0).unwrap_or_default().to_owned();
        self.words.insert(first.clone());
        if DEFINING.contains(&first.as_str())
            && let Some(name) = word(1)
        {
            self.defined.insert(name.to_owned());
        }
        if first == "macro_rules"
            && let Some(name) = word(2)
        {
            self.defined.insert(name.to_owned());
        }
        let mut path = vec![first];
        let mut length = 1;
        while tokens.get(length).is_some_and(|token| token.is(':'))
            && tokens.get(length + 1).is_some_and(|token| token.is(':'))
            && let Some(next) = word(length + 2)
        {
            self.words.insert(next.to_owned());
            path.push(next.to_owned());
            length += 3;
        }
        // A field or what follows a type in brackets leads nowhere by itself.
        if path.len() > 1 && !before.is_some_and(|token| token.is('.') || token.is(':')) {
            self.paths.push(path);
        }
        length
    }
}

/// The leaves of what stands between `use` and its end.
fn branches(tokens: &[Placed], above: &[String], handed_on: bool, leaves: &mut Vec<Use>) {
    let mut path = above.to_vec();
    let mut alias = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.word() {
            Some("as") => {
                alias = tokens.get(at + 1).and_then(Placed::word).map(str::to_owned);
                at += 1;
            }
            Some(word) => path.push(word.to_owned()),
            None if token.is('{') => {
                let inside = &tokens[at + 1..at + group(&tokens[at..]) - 1];
                for branch in parts(inside) {
                    branches(branch, &path, handed_on, leaves);
                }
                return;
            }
            None if token.is('*') => {
                leaves.push(Use { path, alias: None, handed_on });
                return;
            }
            None => {}
        }
        at += 1;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().cloned() else { return };
    leaves.push(Use { path, alias: Some(alias.unwrap_or(last)), handed_on });
}

/// Splits at the commas that stand in no group.
fn parts(tokens: &[Placed]) -> Vec<&[Placed]> {
    let mut depth = 0_usize;
    tokens
        .split(|token| {
            if token.is('{') {
                depth += 1;
            } else if token.is('}') {
                depth -= 1;
            }
            depth == 0 && token.is(',')
        })
        .filter(|part| !part.is_empty())
        .collect()
}

/// A name that leads in a circle of names alone is given up.
const MAX_STEPS: usize = 16;
const DEFINING: [&str; 9] = ["struct", "enum", "union", "trait", "fn", "type", "const", "static", "macro"];
