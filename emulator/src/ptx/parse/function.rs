//! Entries and device functions: headers, parameters, performance directives, prototypes.

use super::super::ast::{Function, Sym, Var};
use super::super::lex::Tok;
use super::cursor::Result;
use super::scope::{Name, Scopes};
use super::{Parser, body};

impl Parser<'_> {
    /// `.entry name (params) directives { body }` or `.func (returns) name (params) directives ;`.
    pub(super) fn function(&mut self, entry: bool) -> Result<()> {
        self.cur.forget_loc();
        let pos = self.cur.pos();
        self.cur.next();
        let mut f = Function { entry, pos, ..Function::default() };
        let mut scopes = Scopes::default();
        scopes.push();
        if self.cur.accept_dir(".attribute") {
            self.cur.attribute()?;
        }
        self.directives(&mut f)?;
        if !entry && self.cur.at("(") {
            f.returns = self.parameters(&mut scopes, Sym::Return)?;
        }
        f.name = self.cur.word("a function's name")?.to_string();
        if self.cur.at("(") {
            f.params = self.parameters(&mut scopes, Sym::Param)?;
        }
        self.directives(&mut f)?;
        let index = self.declare_function(&f)?;
        if self.cur.accept(";") {
            return Ok(());
        }
        if !self.cur.at("{") {
            return self.cur.expected("`{` or `;`");
        }
        if self.module.functions[index].body.is_some() {
            return self.cur.error(format!("`{}` has two bodies", f.name));
        }
        self.module.functions[index] = body::parse(self, f, scopes)?;
        Ok(())
    }

    /// Adds the prototype, so that the body can name it; the index of the function.
    fn declare_function(&mut self, f: &Function) -> Result<usize> {
        if let Some(&index) = self.functions.get(&f.name) {
            return Ok(index as usize);
        }
        if self.vars.contains_key(&f.name) {
            return self.cur.error(format!("`{}` is already a variable", f.name));
        }
        let index = self.module.functions.len();
        self.functions.insert(f.name.clone(), index as u32);
        self.module.functions.push(f.clone());
        Ok(index)
    }

    /// `(.param .b32 a, .param .b64 b)`; names other than `_` are declared.
    fn parameters(&mut self, scopes: &mut Scopes, sym: fn(u32) -> Sym) -> Result<Vec<Var>> {
        self.cur.expect("(")?;
        let mut vars = vec![];
        while !self.cur.at(")") {
            let before = self.cur.pos();
            let var = self.cur.parameter()?;
            let fresh = match scopes.innermost() {
                Some(scope) if var.name != "_" => scope.declare(&var.name, Name::Sym(sym(vars.len() as u32))),
                _ => true,
            };
            if !fresh {
                return self.cur.error(format!("the parameter of line {} is declared twice", before.ptx_line));
            }
            vars.push(var);
            if !self.cur.accept(",") {
                break;
            }
        }
        self.cur.expect(")")?;
        Ok(vars)
    }

    /// `.maxntid 256, 1, 1`, `.noreturn`, `.explicitcluster`, `.pragma "..."` ...
    fn directives(&mut self, f: &mut Function) -> Result<()> {
        while let Tok::Dir(name) = self.cur.peek() {
            self.cur.next();
            match name {
                ".pragma" => self.cur.pragma()?,
                ".attribute" => self.cur.attribute()?,
                _ => {
                    let mut numbers = vec![];
                    while matches!(self.cur.peek(), Tok::Int(_)) {
                        numbers.push(self.cur.u32("a number")?);
                        if !self.cur.accept(",") {
                            break;
                        }
                    }
                    f.directives.push((name.to_string(), numbers));
                }
            }
        }
        Ok(())
    }

    /// `.callprototype (returns) _ (params) .noreturn;`, the directive already taken.
    pub(super) fn prototype(&mut self, name: &str) -> Result<Function> {
        let mut f = Function { name: name.to_string(), pos: self.cur.pos(), ..Function::default() };
        let mut scopes = Scopes::default();
        if self.cur.at("(") {
            f.returns = self.parameters(&mut scopes, Sym::Return)?;
        }
        self.cur.word("`_`")?;
        if self.cur.at("(") {
            f.params = self.parameters(&mut scopes, Sym::Param)?;
        }
        self.directives(&mut f)?;
        self.cur.expect(";")?;
        Ok(f)
    }
}
