//! Nested scopes of a function body, and what names mean in them.

use super::super::ast::{LabelId, RegId, Sym};
use std::collections::HashMap;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Reg(RegId),
    Sym(Sym),
    /// A `.branchtargets`, `.calltargets` or `.callprototype`, by its unique name.
    List(String),
}

/// One `{ }`.
#[derive(Default)]
pub(super) struct Scope {
    names: HashMap<String, Name>,
    /// `%r<12>`: prefix to first register and count.
    ranges: HashMap<String, (RegId, u32)>,
    labels: HashMap<String, LabelId>,
    /// Label references (indices into the function's list) not yet resolved.
    pub pending: Vec<usize>,
}

/// The open scopes, outermost first.
#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

impl Scopes {
    pub fn push(&mut self) {
        self.0.push(Scope::default());
    }

    pub fn pop(&mut self) -> Option<Scope> {
        self.0.pop()
    }

    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The innermost scope, if one is open.
    pub fn innermost(&mut self) -> Option<&mut Scope> {
        self.0.last_mut()
    }

    /// What `name` means here; inner scopes hide outer ones.
    pub fn find(&self, name: &str) -> Option<Name> {
        self.0.iter().rev().find_map(|scope| scope.find(name))
    }
}

impl Scope {
    fn find(&self, name: &str) -> Option<Name> {
        if let Some(found) = self.names.get(name) {
            return Some(found.clone());
        }
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[prefix.len()..];
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        let &(first, count) = self.ranges.get(prefix)?;
        let index: u32 = digits.parse().ok()?;
        (index < count).then(|| Name::Reg(first + index))
    }

    /// False if the name is taken in this scope.
    pub fn declare(&mut self, name: &str, meaning: Name) -> bool {
        self.find(name).is_none() && self.names.insert(name.to_string(), meaning).is_none()
    }

    /// Declares `prefix0` to `prefix{count-1}`; false if the prefix is taken.
    pub fn declare_range(&mut self, prefix: &str, first: RegId, count: u32) -> bool {
        self.ranges.insert(prefix.to_string(), (first, count)).is_none()
    }

    /// False if this scope has such a label already.
    pub fn label(&mut self, name: &str, id: LabelId) -> bool {
        self.labels.insert(name.to_string(), id).is_none()
    }

    pub fn find_label(&self, name: &str) -> Option<LabelId> {
        self.labels.get(name).copied()
    }
}
