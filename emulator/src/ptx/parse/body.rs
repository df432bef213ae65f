//! Function bodies: scopes, declarations, labels, instructions.
//!
//! Labels may be used before they are placed, so a reference is an index into a list until its scope closes.

use super::super::ast::{Function, Instr, LabelId, Operand, Reg, RegId, Space, Stmt, Sym, Type, Var};
use super::super::lex::{ParseError, Tok};
use super::cursor::Result;
use super::scope::{Name, Scopes};
use super::var::scalar_type;
use super::{Parser, space};
use std::collections::HashSet;

const MAX_REGS: usize = 1 << 20;
const MAX_SCOPES: usize = 256;

/// Parses `{ ... }` into `f`; `scopes` holds its parameters.
pub(super) fn parse(parser: &mut Parser<'_>, f: Function, scopes: Scopes) -> Result<Function> {
    let mut body = Body { p: parser, f, scopes, stmts: vec![], refs: vec![], taken: HashSet::new() };
    body.run()?;
    body.finish()
}

/// A use of a label, to be resolved when its scope closes.
struct LabelRef {
    name: String,
    line: u32,
    column: u32,
    target: Option<LabelId>,
}

pub(super) struct Body<'p, 'a> {
    pub p: &'p mut Parser<'a>,
    pub f: Function,
    pub scopes: Scopes,
    stmts: Vec<Stmt>,
    refs: Vec<LabelRef>,
    /// Unique names given so far to registers, variables, labels and lists.
    taken: HashSet<String>,
}

impl Body<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let parameters = self.scopes.depth();
        self.open()?;
        while self.scopes.depth() > parameters {
            match self.p.cur.peek() {
                Tok::Punct("{") => self.open()?,
                Tok::Punct("}") => {
                    self.p.cur.next();
                    self.close();
                }
                Tok::Punct(";") => {
                    self.p.cur.next();
                }
                Tok::Dir(name) => self.directive(name)?,
                Tok::Word(name) if self.p.cur.peek_at(1) == Tok::Punct(":") => self.labelled(name)?,
                Tok::Word(_) | Tok::Punct("@") => self.instruction()?,
                _ => return self.p.cur.expected("a statement or `}`"),
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        self.p.cur.expect("{")?;
        if self.scopes.depth() >= MAX_SCOPES {
            return self.p.cur.error(format!("scopes nest deeper than {MAX_SCOPES}"));
        }
        self.scopes.push();
        Ok(())
    }

    /// Resolves the scope's label references; what it does not define, an outer scope may.
    fn close(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        for &index in &scope.pending {
            let label = &mut self.refs[index];
            label.target = scope.find_label(&label.name);
            if label.target.is_none()
                && let Some(outer) = self.scopes.innermost()
            {
                outer.pending.push(index);
            }
        }
    }

    /// Replaces label references by labels.
    fn finish(mut self) -> Result<Function> {
        if let Some(lost) = self.refs.iter().find(|r| r.target.is_none()) {
            let message = format!("label `{}` is not defined in this function", lost.name);
            return Err(ParseError { line: lost.line, column: lost.column, message });
        }
        let target = |index: &mut LabelId| *index = self.refs[*index as usize].target.unwrap_or_default();
        for stmt in &mut self.stmts {
            if let Stmt::Instr(instr) = stmt {
                for arg in &mut instr.args {
                    if let Operand::Label(index) = arg {
                        target(index);
                    }
                }
            }
        }
        self.f.targets.iter_mut().flat_map(|(_, list)| list).for_each(target);
        self.f.body = Some(self.stmts);
        Ok(self.f)
    }

    fn directive(&mut self, name: &str) -> Result<()> {
        match name {
            ".reg" => {
                self.p.cur.next();
                self.registers()
            }
            ".loc" => {
                self.p.cur.next();
                self.p.cur.loc()
            }
            ".pragma" => {
                self.p.cur.next();
                self.p.cur.pragma()
            }
            _ => {
                let external = self.p.linkage();
                let space = match self.p.cur.peek() {
                    Tok::Dir(name) => space(name),
                    _ => None,
                };
                match space {
                    Some(space) => self.variables(space, external),
                    None => self.p.cur.expected("`.reg`, `.shared`, `.local`, `.param`, `.loc` or `.pragma`"),
                }
            }
        }
    }

    /// A name not yet given in this function: `name`, else `name$1`, `name$2` ...
    fn unique(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_string()) {
            return name.to_string();
        }
        let fresh = (1..).map(|n| format!("{name}${n}")).find(|n| !self.taken.contains(n)).unwrap_or_default();
        self.taken.insert(fresh.clone());
        fresh
    }

    fn declare(&mut self, name: &str, meaning: Name) -> Result<()> {
        match self.scopes.innermost().is_some_and(|scope| scope.declare(name, meaning)) {
            true => Ok(()),
            false => self.p.cur.error(format!("`{name}` is declared twice in this scope")),
        }
    }

    /// `.reg .b32 %r<12>, a;`, the directive already taken.
    fn registers(&mut self) -> Result<()> {
        let ty = match self.p.cur.peek() {
            Tok::Dir(name) => scalar_type(name),
            _ => None,
        };
        let Some(ty) = ty else { return self.p.cur.expected("a register type such as `.b32`") };
        self.p.cur.next();
        loop {
            let name = self.p.cur.word("a register's name")?;
            if self.p.cur.accept("<") {
                let count = self.p.cur.u32("how many registers")?;
                self.p.cur.expect(">")?;
                self.register_range(name, count, ty)?;
            } else {
                let id = self.add_register(name, ty)?;
                self.declare(name, Name::Reg(id))?;
            }
            if !self.p.cur.accept(",") {
                return self.p.cur.expect(";");
            }
        }
    }

    fn register_range(&mut self, prefix: &str, count: u32, ty: Type) -> Result<()> {
        if count as usize > MAX_REGS {
            return self.p.cur.error(format!("a function has more than {MAX_REGS} registers"));
        }
        let first = self.f.regs.len() as RegId;
        for index in 0..count {
            self.add_register(&format!("{prefix}{index}"), ty)?;
        }
        match self.scopes.innermost().is_some_and(|scope| scope.declare_range(prefix, first, count)) {
            true => Ok(()),
            false => self.p.cur.error(format!("`{prefix}<...>` is declared twice in this scope")),
        }
    }

    fn add_register(&mut self, name: &str, ty: Type) -> Result<RegId> {
        if self.f.regs.len() >= MAX_REGS {
            return self.p.cur.error(format!("a function has more than {MAX_REGS} registers"));
        }
        let name = self.unique(name);
        self.f.regs.push(Reg { name, ty });
        Ok(self.f.regs.len() as RegId - 1)
    }

    /// Variables of a scope. `.shared`, `.local` and `.param` are the function's own; the others, and everything
    /// `.extern`, live as long as the module and move there.
    fn variables(&mut self, space: Space, external: bool) -> Result<()> {
        self.p.cur.next();
        for var in self.p.cur.variables(space, external)? {
            let name = var.name.clone();
            let own = !external && matches!(space, Space::Shared | Space::Local | Space::Param);
            let sym = if own { self.own_variable(var) } else { self.module_variable(var)? };
            self.declare(&name, Name::Sym(sym))?;
        }
        Ok(())
    }

    fn own_variable(&mut self, var: Var) -> Sym {
        let name = self.unique(&var.name);
        self.f.vars.push(Var { name, ..var });
        Sym::LocalVar(self.f.vars.len() as u32 - 1)
    }

    fn module_variable(&mut self, mut var: Var) -> Result<Sym> {
        if !var.external {
            let scoped = format!("{}${}", self.f.name, var.name);
            var.name = self.unique(&scoped);
        }
        self.p.add_var(var).map(Sym::ModuleVar)
    }

    /// `name:` before a statement, or `name: .branchtargets a, b;` and its like.
    fn labelled(&mut self, name: &str) -> Result<()> {
        self.p.cur.next();
        self.p.cur.next();
        match self.p.cur.peek() {
            Tok::Dir(".branchtargets") => {
                let list = self.list(name)?;
                let targets = self.listed(|body, word| Ok(body.label_ref(word)))?;
                self.f.targets.push((list, targets));
            }
            Tok::Dir(".calltargets") => {
                let list = self.list(name)?;
                self.listed(|body, word| match body.p.functions.contains_key(word) {
                    true => Ok(()),
                    false => body.p.cur.error(format!("function `{word}` is not declared")),
                })?;
                self.f.targets.push((list, vec![]));
            }
            Tok::Dir(".callprototype") => {
                let list = self.list(name)?;
                let prototype = self.p.prototype(&list)?;
                self.f.prototypes.push((list, Box::new(prototype)));
            }
            _ => self.label(name)?,
        }
        Ok(())
    }

    fn label(&mut self, name: &str) -> Result<()> {
        let id = self.f.labels.len() as LabelId;
        if !self.scopes.innermost().is_some_and(|scope| scope.label(name, id)) {
            return self.p.cur.error(format!("label `{name}` is defined twice in this scope"));
        }
        let unique = self.unique(name);
        self.f.labels.push(unique);
        self.stmts.push(Stmt::Label(id));
        Ok(())
    }

    /// Declares a list and takes its directive.
    fn list(&mut self, name: &str) -> Result<String> {
        let unique = self.unique(name);
        self.declare(name, Name::List(unique.clone()))?;
        self.p.cur.next();
        Ok(unique)
    }

    /// `a, b, c;`
    fn listed<T>(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<T>) -> Result<Vec<T>> {
        let mut all = vec![];
        loop {
            let word = self.p.cur.word("a name")?;
            all.push(each(self, word)?);
            if !self.p.cur.accept(",") {
                self.p.cur.expect(";")?;
                return Ok(all);
            }
        }
    }

    /// A reference to a label that need not be placed yet.
    pub(super) fn label_ref(&mut self, name: &str) -> LabelId {
        let (line, column) = self.p.cur.line_column();
        let index = self.refs.len();
        self.refs.push(LabelRef { name: name.to_string(), line, column, target: None });
        if let Some(scope) = self.scopes.innermost() {
            scope.pending.push(index);
        }
        index as LabelId
    }

    fn instruction(&mut self) -> Result<()> {
        let pos = self.p.cur.pos();
        let guard = self.guard()?;
        let mut op: Vec<String> = self.p.cur.word("an opcode")?.split('.').map(str::to_string).collect();
        // `add .s32` with a blank before the dot.
        while let Tok::Dir(part) = self.p.cur.peek() {
            op.push(part[1..].to_string());
            self.p.cur.next();
        }
        let args = self.operands(&op)?;
        self.stmts.push(Stmt::Instr(Instr { guard, op, args, pos }));
        Ok(())
    }

    /// `@p` or `@!p`.
    fn guard(&mut self) -> Result<Option<(RegId, bool)>> {
        if !self.p.cur.accept("@") {
            return Ok(None);
        }
        let negated = self.p.cur.accept("!");
        match self.p.cur.peek() {
            Tok::Word(name) => match self.scopes.find(name) {
                Some(Name::Reg(id)) => {
                    self.p.cur.next();
                    Ok(Some((id, negated)))
                }
                _ => self.p.cur.error(format!("predicate `{name}` is not declared")),
            },
            _ => self.p.cur.expected("a predicate register"),
        }
    }
}
